"""`deeprebirth targets`."""

import json
from dataclasses import asdict
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
    if as_json:
        print(json.dumps({"targets": [*map(_facts, known)]}))
        return
    Console().print(_processors([info for info in known if info.gpu is None]))
    Console().print(_gpus([info for info in known if info.gpu is not None]))


def _facts(info: "TargetInfo") -> dict[str, object]:
    from targets import with_its_gpu

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
        "graphics": info.graphics,
        "graphics_target": with_its_gpu(info),
        "gpu": asdict(info.gpu) if info.gpu else None,
    }


def _processors(known: list["TargetInfo"]) -> Table:
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


def _gpus(known: list["TargetInfo"]) -> Table:
    table = Table(
        *(
            "target",
            "what it is",
            "work group",
            "local memory",
            "in step",
            "units",
            "fp16",
            "OpenCL",
            "verified",
        ),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption="A processor drives a GPU: GPU+TARGET names both, such as mali-g610+rk3588 or mali-g76+host.",
        caption_justify="left",
    )
    for info in known:
        gpu = info.gpu
        table.add_row(
            Text(info.name),
            Text(info.description),
            str(gpu.max_threads),
            f"{gpu.local_bytes >> 10} KiB",
            str(gpu.warp) if gpu.warp > 1 else "",
            str(gpu.units or ""),
            "compiled only" if gpu.float16 else "no",
            gpu.opencl,
            "reported" if gpu.reported else "cautious",
            info.verified.value,
        )
    return table


def _in_full(info: "TargetInfo") -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    found = info.toolchain.find()
    facts = _facts(info)
    gpu = facts.pop("gpu") or {}
    facts |= {
        "features": " ".join(info.features),
        "compiler_found": found or f"missing: {info.toolchain.remedy}",
        **{f"gpu_{key}": value for key, value in gpu.items()},
    }
    for key, value in facts.items():
        if value not in (None, ""):
            table.add_row(key.replace("_", " "), Text(str(value)))
    return table
