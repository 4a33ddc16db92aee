"""Write the comparison of several targets as report.json, report.md and report.html, and show it."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.files import write_text_atomic
from pipeline.report.comparison_model import Comparison
from pipeline.report.comparison_tables import comparison_tables, headline, title
from pipeline.report.pages import render
from pipeline.report.render import PAGES
from pipeline.report.tables import printable
from pipeline.report.terminal import print_notices, print_table, print_written


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write the three pages into an existing directory, each whole or not at all.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    texts = (comparison.model_dump_json(indent=2) + "\n", markdown(comparison), html(comparison))
    for name, text in zip(PAGES, texts, strict=True):
        write_text_atomic(directory / name, text)


def markdown(comparison: Comparison) -> str:
    """Return the comparison as a Markdown page."""
    return _render("comparison.md", comparison)


def html(comparison: Comparison) -> str:
    """Return the comparison as one HTML page that needs nothing beside it."""
    return _render("comparison.html", comparison, charts=())


def print_comparison(comparison: Comparison, console: Console, written: Iterable[Path] = ()) -> None:
    """Print the tables, then the notices, the choice, and where it was written."""
    console.print(Text(printable(title(comparison)), style="bold"))
    for table in comparison_tables(comparison):
        console.print()
        print_table(table, console)
    console.print()
    print_notices(comparison.notices, console)
    console.print(Text(printable(headline(comparison)), style="bold green" if comparison.choice else "bold"))
    console.print(Text(printable(comparison.choice_note), style="dim"))
    print_written(written, console)


def _render(template: str, comparison: Comparison, **more: object) -> str:
    texts = {
        "title": title(comparison),
        "headline": headline(comparison),
        "explanation": comparison.choice_note,
        "accuracy": comparison.targets[0].accuracy,
    }
    return render(template, notices=comparison.notices, tables=comparison_tables(comparison), **texts, **more)
