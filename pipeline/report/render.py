"""Make report.json, report.md and report.html from one report.

Names in a report come from the user's model and may hold anything; each page escapes them in its own way.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.files import write_text_atomic
from pipeline.report.chart import accuracy_chart, chart
from pipeline.report.model import Report
from pipeline.report.tables import Table, change_of, headline, printable, tables

PAGES = ("report.json", "report.md", "report.html")
MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]|~$#])")


def write_report(report: Report, directory: Path) -> tuple[Path, ...]:
    """Write report.json, report.md and report.html, each whole or not at all.

    Parameters
    ----------
    report : Report
        What to write.
    directory : Path
        An existing directory.

    Returns
    -------
    tuple[Path, ...]
        The three files.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    directory = Path(directory)
    texts = (report.model_dump_json(indent=2) + "\n", markdown(report), html(report))
    for name, text in zip(PAGES, texts, strict=True):
        write_text_atomic(directory / name, text)
    return tuple(directory / name for name in PAGES)


def markdown(report: Report) -> str:
    """Return the report as a Markdown page."""
    return _render("report.md", report)


def html(report: Report) -> str:
    """Return the report as one HTML page that needs nothing beside it."""
    charts = [chart(report)]
    if report.accuracy.steps:
        charts.append(accuracy_chart(report.accuracy))
    return _render("report.html", report, charts=charts)


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in a paragraph or in the cell of a table."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN_SPECIAL.sub(r"\\\1", text)


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def _markdown_rule(table: Table) -> str:
    ends = ("---:" if index in table.numbers else "---" for index, _ in enumerate(table.header))
    return f"| {' | '.join(ends)} |"


def _render(template: str, report: Report, **more: object) -> str:
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"md": escape_markdown, "md_row": _markdown_row, "md_rule": _markdown_rule}
    texts = {"headline": headline(report), "change": change_of(report.accuracy)}
    return environment.get_template(template).render(report=report, tables=tables(report), **texts, **more)
