"""`deeprebirth targets`."""

import json

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.cli.options import JsonOption


def targets(as_json: JsonOption = False) -> None:
    """Print what can be built for."""
    from targets import all_targets

    known = all_targets()
    if as_json:
        rows = [
            {
                "name": target.name,
                "description": target.description,
                "triple": target.triple,
                "cpu": target.cpu,
                "threads": target.threads,
            }
            for target in known
        ]
        print(json.dumps({"targets": rows}))
        return
    table = Table(
        "target", "what it is", "triple", "processor", "threads", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for target in known:
        table.add_row(target.name, target.description, target.triple, target.cpu, str(target.threads))
    Console().print(table)
