"""`deeprebirth targets`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import JsonOption

if TYPE_CHECKING:
    from targets import TargetInfo

NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Show this one in full; a name or a TOML file.", show_default=False),
]


def targets(name: NameArgument = None, as_json: JsonOption = False) -> None:
    """Print what can be built for, and how each was tried."""
    from targets import all_targets, find

    if name is not None:
        info = find(name)
        print(json.dumps(_facts(info))) if as_json else Console().print(_in_full(info))
        return
    known = all_targets()
    print(json.dumps({"targets": [*map(_facts, known)]})) if as_json else Console().print(_listed(known))


def _facts(info: "TargetInfo") -> dict[str, object]:
    return {
        "name": info.name,
        "description": info.description,
        "family": info.family,
        "triple": info.triple,
        "cpu": info.cpu,
        "features": list(info.features),
        "threads": info.threads,
        "clusters": info.clusters,
        "compiler": info.compiler,
        "compiler_from": info.compiler_package,
        "compiler_found": info.toolchain.find(),
        "verified": info.verified.value,
    }


def _listed(known: tuple["TargetInfo", ...]) -> Table:
    table = Table(
        *("target", "what it is", "processor", "features", "cores", "verified", "compiler"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for info in known:
        found = info.toolchain.find() is not None
        table.add_row(
            Text(info.name),
            Text(info.description),
            Text(info.cpu),
            Text(" ".join(info.features)),
            str(info.threads),
            info.verified.value,
            Text("here") if found else Text("missing", style="yellow"),
        )
    return table


def _in_full(info: "TargetInfo") -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    found = info.toolchain.find()
    facts = _facts(info) | {
        "features": " ".join(info.features),
        "compiler_found": found or f"missing: {info.toolchain.remedy}",
    }
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), Text(str(value)))
    return table
