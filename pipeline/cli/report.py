"""`deeprebirth report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.options import JsonOption


def report(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOG...", help="Logs of tuning sessions.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write report.html, report.md and report.json into this directory."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what tuning sessions did, from their logs: latency against time, trials, failures, devices.

    Several logs are shown side by side: two machines, or before and after.
    """
    from pipeline.startup import check_versions

    check_versions()
    from pipeline.report.session import report_of
    from pipeline.report.session_render import write_sessions
    from pipeline.report.session_terminal import print_sessions

    made = report_of(logs)
    written = () if out is None else write_sessions(made, out)
    if as_json:
        print(made.model_dump_json())
    else:
        print_sessions(made, Console(), written)
