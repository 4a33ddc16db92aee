"""`deeprebirth inspect`."""

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
    SvdOption,
    TuckerOption,
    input_shapes,
    merge_request,
)
from pipeline.report.tables import costs, count, printable, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.inspection import Inspection
    from relay_passes import Candidate

FOLLOWERS = ("add", "relu", "prelu", "leakyrelu", "clip")


def inspect(
    model: ModelArgument,
    input_shape: ShapeOption = [],  # noqa: B006
    only: OnlyOption = [],  # noqa: B006
    skip: SkipOption = [],  # noqa: B006
    plan: PlanOption = None,
    tucker: TuckerOption = False,
    energy: EnergyOption = None,
    ratio: RatioOption = None,
    svd: SvdOption = False,
    rank_multiple: RankMultipleOption = None,
    save_plan: Annotated[
        Path | None, typer.Option("--save-plan", help="Write the plan to this file, to edit and give back.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Take the layers' shares of time from this profile.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the layer table of MODEL and its merge plan, refusals with reasons."""
    from pipeline import inspect as run
    from pipeline.merging import read_profile, write_plan

    inspection = run(
        model,
        input_shapes=input_shapes(input_shape),
        request=merge_request(only, skip, plan, tucker, energy, ratio, svd, rank_multiple, retraining=True),
        profile=None if profile is None else read_profile(profile),
    )
    if save_plan is not None:
        write_plan(save_plan, inspection.plan, inspection.name)
    if as_json:
        print(inspection.model_dump_json())
    else:
        _print(inspection, Console())


def _print(inspection: "Inspection", console: Console) -> None:
    plan = inspection.plan
    console.print(_layers(inspection))
    console.print(_merges("Merges", inspection, plan.merges))
    if plan.decompositions:
        console.print(_merges("Tucker decompositions", inspection, plan.decompositions))
    console.print(_refusals(inspection))
    if plan.candidates:
        console.print(Text(f"Time: the share of a merge's layers, {printable(plan.time_from)}."))
    else:
        console.print(Text("Nothing worth merging; the reasons are above."))
    console.print(Text(f"All merges: {costs(inspection.original, inspection.merged)}"))
    if inspection.decomposed is not None:
        console.print(Text(f"With Tucker: {costs(inspection.original, inspection.decomposed)}"))


def _layers(inspection: "Inspection") -> Table:
    table = _table(f"Layers of {inspection.name}", ("layer", "operator", "output"), ("macs", "parameters"))
    for layer in inspection.layers:
        shape = "x".join(map(str, layer.output_shape))
        _row(table, layer.name, layer.operator, shape, f"{layer.macs:,}", f"{layer.parameters:,}")
    return table


def _merges(title: str, inspection: "Inspection", candidates: "Sequence[Candidate]") -> Table:
    table = _table(title, ("merge", "kind", "weights", "removed"), ("macs", "params", "activ.", "time"))
    operators = {layer.name: layer.operator for layer in inspection.layers}
    for each in candidates:
        removed = [name for name in each.removed if operators.get(name) not in FOLLOWERS] or each.removed
        ranks = "" if each.ranks is None else "ranks {}, {}".format(*each.ranks)
        _row(
            table,
            each.name,
            each.kind,
            "exact" if each.exact else "retrain",
            "\n".join(name.removeprefix(each.name).lstrip("/._") or name for name in removed) or ranks,
            _signed(count, each.macs_after - each.macs_before),
            _signed(count, each.parameters_after - each.parameters_before),
            _signed(size, each.activation_bytes_after - each.activation_bytes_before),
            f"{each.time_share:.0%}",
        )
    return table


def _signed(text: "Callable[[float], str]", change: int) -> str:
    return f"{'-' if change < 0 else '+'}{text(abs(change))}" if change else "0"


def _refusals(inspection: "Inspection") -> Table:
    table = _table("Refused", ("candidate", "kind", "reason"), ())
    for each in inspection.plan.refusals:
        _row(table, each.name, each.kind, f"{each.reason}: {each.detail}")
    return table


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in words:
        table.add_column(name, overflow="fold", no_wrap=name in ("kind", "weights"))
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in cells))
