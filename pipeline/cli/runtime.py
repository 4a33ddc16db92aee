"""`deeprebirth runtime`: the folder that is copied to a board without Python."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from pipeline.cli.options import JsonOption
from pipeline.errors import UserError
from pipeline.files import check_replaceable, check_writable, fresh_directory, writing
from pipeline.report.tables import printable

if TYPE_CHECKING:
    from targets import TargetInfo
    from targets.runtime import Packed


def runtime(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="The folder to make; an older one is replaced."),
    ],
    target: Annotated[
        str, typer.Option(help="The board; `deeprebirth targets` lists them.", show_default=False)
    ],
    key: Annotated[
        str, typer.Option(help="The key in the unit of systemd; by default the target's name.")
    ] = "",
    cc: Annotated[
        str | None, typer.Option(help="The C++ cross compiler; by default the target's.", show_default=False)
    ] = None,
    tvm_runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A TVM runtime for the board (include, lib) instead of the prebuilt one."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the RPC server for a board without Python, and all it needs there, in one folder to copy."""
    from targets import find
    from targets.runtime import check, pack

    if key.split() not in ([], [key]):
        raise UserError(f"--key {key!r}: write it without spaces")
    info = find(target).with_compiler(cc)
    check(info, tvm_runtime)
    check_replaceable(out)
    if not out.exists():
        check_writable(out)
    with fresh_directory(out) as folder, writing(out):
        packed = pack(info, folder, key or info.name, tvm_runtime, _say)
    if as_json:
        print(json.dumps(_facts(info, out, packed)))
    else:
        _print(info, out, key or info.name, packed)


def _facts(target: "TargetInfo", out: Path, packed: "Packed") -> dict[str, object]:
    return {"target": target.name, "path": str(out), "bytes": packed.bytes, "needs": packed.needs}


def _print(target: "TargetInfo", out: Path, key: str, packed: "Packed") -> None:
    needs = " and ".join(f"{library} {version}" for library, version in packed.needs.items())
    lines = [
        f"written: {out} ({packed.bytes / 1e6:.1f} MB, for {target.triple}); it needs {needs} or newer",
        f"copy it to the board and run: {out.name}/start --tracker HOST:PORT --key {key} --host 0.0.0.0",
    ]
    for line in lines:
        Console().print(Text(printable(line)), soft_wrap=True)


def _say(line: str) -> None:
    Console(stderr=True).print(Text(printable(line), style="dim"), soft_wrap=True)
