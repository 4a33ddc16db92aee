"""Options for retraining, and the settings that they stand for."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.retraining import Settings

OPTIONS = {"groups": "--group"}
"""Names of options that are not those of the settings."""

DataOption = Annotated[
    str,
    typer.Option(
        help="Training data: a directory of class folders or images, IDX or NPZ files, or module:function."
    ),
]
ValidationOption = Annotated[
    str | None,
    typer.Option(
        help="Data to measure accuracy on; by default the part that the training data brings along."
    ),
]
MetricOption = Annotated[
    str | None, typer.Option(help="top-1, top-5, agreement, or module:function; by default top-1.")
]
PreprocessingOption = Annotated[
    str | None,
    typer.Option(
        help="imagenet, unit, signed, caffe, or a JSON file; by default what the kind of the data suggests."
    ),
]
ClassesOption = Annotated[
    Path | None, typer.Option(help="Names of the classes, one a line, in the order of the outputs.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        metavar="fitted|paper",
        help="fitted: new layers start from a fit to the old ones and learn from the original network. "
        "paper: they start at random and learn from the labels; by default fitted.",
    ),
]
MaxDropOption = Annotated[
    float | None,
    typer.Option(
        metavar="POINTS",
        help="What the metric may lose; a step that loses more is undone; by default 0.4.",
    ),
]
EpochsOption = Annotated[
    float | None, typer.Option(help="Passes over the data that each step may take; by default 2.")
]
BatchSizeOption = Annotated[int | None, typer.Option(help="Samples in a batch; by default 64.")]


def settings(**given: object) -> "Settings":
    """The settings that options stand for; what is None is left at its default.

    Raises
    ------
    UserError
        A value is out of range; the message names its option.
    """
    from pydantic import ValidationError

    from pipeline.retraining import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        reason = re.sub(r"^Input", "the value", first["msg"])
        raise UserError(f"{option} {first['input']}: {reason}") from None


def groups(given: list[str]) -> tuple[tuple[str, ...], ...]:
    """Read `A,B,C` options.

    Raises
    ------
    UserError
        One of them holds an empty name.
    """
    read = tuple(tuple(name.strip() for name in text.split(",")) for text in given)
    for text, names in zip(given, read, strict=True):
        if not all(names):
            raise UserError(f"--group {text}: name merges, separated by commas")
    return read
