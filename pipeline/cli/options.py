"""Options that several commands share."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.merging import MergeRequest
    from relay_passes import RankChoice

RANK_MULTIPLE = 8
"""The lanes of a vector of float32 or float16 on most processors."""
SHAPE = re.compile(r"^(?P<name>.+):(?P<sizes>\d+(x\d+)*)$")


def model_file(given: Path) -> Path:
    """The file that MODEL stands for: itself, or the network in a directory that `retrain` wrote.

    Raises
    ------
    UserError
        It is another directory.
    """
    if not given.is_dir():
        return given
    from pipeline.retraining.result import read_result

    return read_result(given).network


ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="An ONNX file, a torch.export archive (.pt2), or a directory that `retrain` wrote.",
        show_default=False,
        callback=model_file,
    ),
]
ShapeOption = Annotated[
    list[str],
    typer.Option(
        "--input-shape", metavar="NAME:1x3x224x224", help="Fix the sizes of an input that leaves them open."
    ),
]
StructureOnlyOption = Annotated[
    bool, typer.Option("--structure-only", help="Also make merges that need retraining; for timing only.")
]
OnlyOption = Annotated[
    list[str],
    typer.Option(
        "--only", metavar="MERGE", help="Make only these merges: names (with *) or kinds; repeatable."
    ),
]
SkipOption = Annotated[
    list[str],
    typer.Option(
        "--skip", metavar="MERGE", help="Leave these merges out: names (with *) or kinds; repeatable."
    ),
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="Make the merges of this plan, written by `inspect --save-plan` and edited."),
]
TuckerOption = Annotated[
    bool,
    typer.Option(
        "--tucker", help="Decompose convolutions after merging; ranks by Bayesian matrix factorisation."
    ),
]
EnergyOption = Annotated[
    float | None,
    typer.Option("--energy", help="Decompose, with ranks that keep this share of the weights' energy."),
]
RatioOption = Annotated[
    float | None,
    typer.Option("--ratio", help="Decompose, with ranks that leave this share of a layer's multiply-adds."),
]
SvdOption = Annotated[
    bool,
    typer.Option("--svd", help="Decompose 1x1 convolutions and dense layers too, by singular values."),
]
RankMultipleOption = Annotated[
    int | None,
    typer.Option(
        "--rank-multiple", min=1, help="Make ranks multiples of this, the lanes of a vector (default: 8)."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def merge_request(
    only: list[str],
    skip: list[str],
    plan: Path | None,
    tucker: bool,
    energy: float | None,
    ratio: float | None,
    svd: bool,
    rank_multiple: int | None,
    *,
    retraining: bool,
) -> "MergeRequest":
    """What the options for merging ask for.

    Raises
    ------
    UserError
        The plan cannot be read, or ranks are asked for in two ways, or in none for `svd`.
    """
    from pipeline.merging import MergeRequest, read_plan

    return MergeRequest(
        retraining=retraining,
        only=tuple(only),
        skip=tuple(skip),
        plan=None if plan is None else read_plan(plan),
        ranks=_ranks(tucker, energy, ratio, svd, rank_multiple),
    )


def _ranks(
    tucker: bool, energy: float | None, ratio: float | None, svd: bool, multiple: int | None
) -> "RankChoice | None":
    from relay_passes import Energy, Ratio, Vbmf, WrongRanks

    if energy is not None and ratio is not None:
        raise UserError("--energy and --ratio both choose the ranks: give one of them")
    common = {"matrices": svd, "multiple": multiple or RANK_MULTIPLE}
    try:
        if energy is not None:
            return Energy(energy, **common)
        if ratio is not None:
            return Ratio(ratio, **common)
    except WrongRanks as error:
        raise UserError(str(error)) from None
    if not tucker and (svd or multiple):
        raise UserError(
            "--svd and --rank-multiple need a choice of ranks: give --tucker, --energy or --ratio with them"
        )
    return Vbmf(**common) if tucker else None


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
