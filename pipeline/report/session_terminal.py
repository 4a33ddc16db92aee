"""Show a report on tuning sessions on the terminal."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.report.session_model import SessionsReport
from pipeline.report.session_tables import headline, session_tables, title
from pipeline.report.tables import printable
from pipeline.report.terminal import print_notices, print_table, print_written


def print_sessions(report: SessionsReport, console: Console, written: Iterable[Path] = ()) -> None:
    """Print every table, then the notices, the result, and where it was written."""
    console.print(Text(printable(title(report)), style="bold"))
    for table in session_tables(report):
        console.print()
        print_table(table, console)
    console.print()
    print_notices(report.notices, console)
    console.print(Text(printable(headline(report)), style="bold"))
    print_written(written, console)
