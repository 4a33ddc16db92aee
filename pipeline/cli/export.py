"""`deeprebirth merge` and `deeprebirth export`: two names of one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import (
    EnergyOption,
    JsonOption,
    ModelArgument,
    OnlyOption,
    PlanOption,
    RankMultipleOption,
    RatioOption,
    ShapeOption,
    SkipOption,
    StructureOnlyOption,
    SvdOption,
    TuckerOption,
    input_shapes,
    merge_request,
)
from pipeline.report.tables import costs, printable

if TYPE_CHECKING:
    from pipeline.exporter import Exported


def export(
    model: ModelArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", "--onnx", metavar="OUT", help="The ONNX file to write.")
    ],
    structure_only: StructureOnlyOption = False,
    only: OnlyOption = [],  # noqa: B006
    skip: SkipOption = [],  # noqa: B006
    plan: PlanOption = None,
    tucker: TuckerOption = False,
    energy: EnergyOption = None,
    ratio: RatioOption = None,
    svd: SvdOption = False,
    rank_multiple: RankMultipleOption = None,
    input_shape: ShapeOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Merge MODEL and write it as ONNX, for other runtimes.

    `merge` and `export` are one command. Only exact merges are made; `retrain` makes the others. The file is
    written once onnxruntime computes the same from it.
    """
    from pipeline import export as run

    exported = run(
        model,
        onnx_file=out,
        input_shapes=input_shapes(input_shape),
        request=merge_request(
            only, skip, plan, tucker, energy, ratio, svd, rank_multiple, retraining=structure_only
        ),
    )
    if as_json:
        print(exported.model_dump_json())
    else:
        _print(exported, Console())


def _print(exported: "Exported", console: Console) -> None:
    if exported.plan.candidates:
        console.print(_merges(exported))
    else:
        console.print(Text("Nothing was merged; `deeprebirth inspect` says why."))
    worst = exported.worst
    lines = [
        costs(exported.original, exported.merged),
        f"largest difference: {worst.max_abs_diff:.2g} of {worst.tolerance:.2g} allowed "
        f"({worst.what}, against {worst.against})",
        *(f"note: {notice}" for notice in exported.notices),
        f"written: {exported.path} ({exported.bytes / 1e6:,.1f} MB, ONNX opset {exported.opset})",
    ]
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)


def _merges(exported: "Exported") -> Table:
    table = Table(
        title=Text(f"Merged in {printable(exported.name)}", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("merge", "kind", "weights"):
        table.add_column(name, overflow="fold")
    table.add_column("layers removed", justify="right")
    for each in exported.plan.candidates:
        cells = (each.name, each.kind, "exact" if each.exact else "not trained", str(len(each.removed)))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table
