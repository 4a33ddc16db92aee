"""`deeprebirth doctor`."""

import json

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Print what is missing on this machine and how to get it; exit 2 if something is."""
    from pipeline.doctor import diagnose

    checks = diagnose()
    if as_json:
        print(json.dumps({"checks": [check.model_dump() for check in checks]}))
    else:
        table = Table("", "check", "found", "what to do", box=box.SIMPLE_HEAD, pad_edge=False)
        for check in checks:
            mark = Text("ok", style="green") if check.ok else Text("no", style="bold red")
            table.add_row(mark, check.name, Text(check.detail), Text(check.remedy))
        Console().print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(2)
