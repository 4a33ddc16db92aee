"""Make report.json, report.md and report.html from one report."""

from pathlib import Path

from pipeline.files import write_text_atomic
from pipeline.report.chart import accuracy_chart, chart
from pipeline.report.model import Report
from pipeline.report.pages import render
from pipeline.report.tables import change_of, headline, tables

PAGES = ("report.json", "report.md", "report.html")


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


def _render(template: str, report: Report, **more: object) -> str:
    texts = {"headline": headline(report), "change": change_of(report.accuracy)}
    return render(template, report=report, tables=tables(report), **texts, **more)
