"""Make report.json, report.md and report.html of tuning sessions."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import MARKER, fresh_directory, write_text_atomic
from pipeline.report.pages import render
from pipeline.report.render import PAGES
from pipeline.report.session_chart import session_charts
from pipeline.report.session_model import SessionsReport
from pipeline.report.session_tables import headline, session_tables, title


def write_sessions(report: SessionsReport, directory: Path) -> tuple[Path, ...]:
    """Write the three pages into a directory of their own, all of them or none.

    Parameters
    ----------
    directory : Path
        Made if it is missing; an older report there is replaced.

    Returns
    -------
    tuple[Path, ...]
        The three files.

    Raises
    ------
    UserError
        It holds something else than a report, or cannot be written to.
    """
    check_for_report(directory)
    texts = (report.model_dump_json(indent=2) + "\n", markdown(report), html(report))
    with fresh_directory(directory) as fresh:
        for name, text in zip(PAGES, texts, strict=True):
            write_text_atomic(fresh / name, text)
    return tuple(directory / name for name in PAGES)


def check_for_report(directory: Path) -> None:
    """Find out whether a directory may be replaced by a report.

    Raises
    ------
    UserError
        It holds something else, such as the result of another command.
    """
    if not directory.is_dir():
        return
    others = sorted({each.name for each in directory.iterdir()} - {*PAGES, MARKER})
    if others:
        raise UserError(
            f"{directory} holds more than a report ({', '.join(others[:3])}): choose another directory"
        )


def markdown(report: SessionsReport) -> str:
    """Return the report as a Markdown page."""
    return _render("sessions.md", report)


def html(report: SessionsReport) -> str:
    """Return the report as one HTML page that needs nothing beside it."""
    return _render("sessions.html", report, charts=session_charts(report))


def _render(template: str, report: SessionsReport, **more: object) -> str:
    texts = {"title": title(report), "headline": headline(report)}
    return render(template, notices=report.notices, tables=session_tables(report), **texts, **more)
