"""Show a report on the terminal."""

from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from pipeline.report.model import Accuracy, Report
from pipeline.report.tables import Table, accuracy_table, change_of, headline, printable, tables


def print_report(report: Report, console: Console, written: Iterable[Path] = ()) -> None:
    """Print every table of a report, then its notices, the result, and where it was written.

    Parameters
    ----------
    report : Report
        What to show.
    console : Console
        Where to show it.
    written : Iterable[Path]
        The files and directories to name at the end.
    """
    console.print(Text(printable(f"{report.model.name} for {report.target.name}"), style="bold"))
    for table in tables(report):
        console.print()
        print_table(table, console)
    console.print()
    print_notices(report.notices, console)
    if report.accuracy.measured:
        console.print(Text(printable(change_of(report.accuracy)), style="bold"))
    else:
        console.print(Text(f"Note that {report.accuracy.note}."))
    console.print(Text(headline(report), style="bold green" if report.speedup else "bold"))
    console.print(Text(printable(report.speedup_note), style="dim"))
    print_written(written, console)


def print_accuracy(accuracy: Accuracy, console: Console, written: Iterable[Path] = ()) -> None:
    """Print what became of the accuracy step by step, the result, and where it was written."""
    print_table(accuracy_table(accuracy), console)
    console.print()
    console.print(Text(printable(change_of(accuracy)), style="bold"))
    print_written(written, console)


def print_notices(notices: Iterable[str], console: Console) -> None:
    """Print what the reader has to know, each in a frame."""
    for notice in notices:
        console.print(Panel(Text(printable(notice), style="bold"), border_style="yellow", title="Notice"))


def print_table(table: Table, console: Console) -> None:
    """Print a table and the note below it."""
    console.print(_rich(table))
    if table.note:
        console.print(Text(printable(table.note), style="dim"))


def print_written(written: Iterable[Path], console: Console) -> None:
    """Print where something was written."""
    for path in written:
        console.print(Text(f"written: {printable(str(path))}"), soft_wrap=True)


def _rich(table: Table) -> RichTable | Text:
    if not table.rows:
        return Text.assemble((f"{printable(table.title)}: ", "bold"), table.empty)
    shown = RichTable(
        title=Text(printable(table.title), style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=any(table.header),
        show_edge=False,
        pad_edge=False,
    )
    for index, name in enumerate(table.header):
        number = index in table.numbers
        shown.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    return shown
