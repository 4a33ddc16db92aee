"""Options that several commands share."""

import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError

SHAPE = re.compile(r"^(?P<name>.+):(?P<sizes>\d+(x\d+)*)$")

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="An ONNX file or a torch.export archive (.pt2).", show_default=False
    ),
]
ShapeOption = Annotated[
    list[str],
    typer.Option(
        "--input-shape", metavar="NAME:1x3x224x224", help="Fix the sizes of an input that leaves them open."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def input_shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """Read `NAME:1x3x224x224` options.

    Raises
    ------
    UserError
        One of them is spelt otherwise.
    """
    return dict(_input_shape(text) for text in given)


def _input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    match = SHAPE.match(text)
    if match is None:
        raise UserError(f"--input-shape {text}: write it as NAME:1x3x224x224")
    return match["name"], tuple(int(size) for size in match["sizes"].split("x"))
