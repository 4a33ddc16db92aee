"""`deeprebirth doctor`."""

import json
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import JsonOption

if TYPE_CHECKING:
    from pipeline.doctor import Check


def doctor(as_json: JsonOption = False) -> None:
    """Print what is missing on this machine and how to get it; exit 2 if something is."""
    from pipeline.doctor import diagnose

    checks = diagnose()
    if as_json:
        print(json.dumps({"checks": [check.model_dump() for check in checks]}))
    else:
        table = Table("", "check", "found", "what to do", box=box.SIMPLE_HEAD, pad_edge=False)
        for check in checks:
            table.add_row(_mark(check), check.name, Text(check.detail), Text(check.remedy))
        Console().print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(2)


def _mark(check: "Check") -> Text:
    """What is optional and missing is neither right nor wrong."""
    if not check.ok:
        return Text("no", style="bold red")
    return Text("--", style="dim") if check.remedy else Text("ok", style="green")
