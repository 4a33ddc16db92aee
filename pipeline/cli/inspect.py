"""`deeprebirth inspect`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import (
    JsonOption,
    ModelArgument,
    OnlyOption,
    PlanOption,
    ShapeOption,
    SkipOption,
    input_shapes,
    merge_request,
)
from pipeline.report.tables import printable

if TYPE_CHECKING:
    from pipeline.inspection import Inspection

FOLLOWERS = ("add", "relu", "prelu", "leakyrelu", "clip")


def inspect(
    model: ModelArgument,
    input_shape: ShapeOption = [],  # noqa: B006
    only: OnlyOption = [],  # noqa: B006
    skip: SkipOption = [],  # noqa: B006
    plan: PlanOption = None,
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
        request=merge_request(only, skip, plan, retraining=True),
        profile=None if profile is None else read_profile(profile),
    )
    if save_plan is not None:
        write_plan(save_plan, inspection.plan, inspection.name)
    if as_json:
        print(inspection.model_dump_json())
    else:
        _print(inspection, Console())


def _print(inspection: "Inspection", console: Console) -> None:
    console.print(_layers(inspection))
    console.print(_merges(inspection))
    console.print(_refusals(inspection))
    before, after = inspection.original, inspection.merged
    if inspection.plan.candidates:
        console.print(Text(f"Time: the share of a merge's layers, {printable(inspection.plan.time_from)}."))
    else:
        console.print(Text("Nothing worth merging."))
    console.print(
        Text(
            f"All merges: {before.macs / 1e6:,.0f} -> {after.macs / 1e6:,.0f} million multiply-adds, "
            f"{before.parameters:,} -> {after.parameters:,} parameters, "
            f"{before.layers} -> {after.layers} layers"
        )
    )


def _layers(inspection: "Inspection") -> Table:
    table = _table(f"Layers of {inspection.name}", ("layer", "operator", "output"), ("macs", "parameters"))
    for layer in inspection.layers:
        shape = "x".join(map(str, layer.output_shape))
        _row(table, layer.name, layer.operator, shape, f"{layer.macs:,}", f"{layer.parameters:,}")
    return table


def _merges(inspection: "Inspection") -> Table:
    table = _table(
        "Merges", ("merge", "kind", "weights", "removed"), ("macs", "parameters", "activations", "time")
    )
    operators = {layer.name: layer.operator for layer in inspection.layers}
    for each in inspection.plan.candidates:
        removed = [name for name in each.removed if operators.get(name) not in FOLLOWERS] or each.removed
        _row(
            table,
            each.name,
            each.kind,
            "exact" if each.exact else "retrain",
            "\n".join(name.removeprefix(each.name).lstrip("/._") or name for name in removed),
            f"{(each.macs_after - each.macs_before) / 1e6:+,.1f} M",
            f"{each.parameters_after - each.parameters_before:+,}",
            f"{(each.activation_bytes_after - each.activation_bytes_before) / 1e3:+,.0f} KB",
            f"{each.time_share:.1%}",
        )
    return table


def _refusals(inspection: "Inspection") -> Table:
    table = _table("Refused", ("candidate", "kind", "reason"), ())
    for each in inspection.plan.refusals:
        _row(table, each.name, each.kind, f"{each.reason}: {each.detail}")
    return table


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(words):
        table.add_column(name, overflow="fold", no_wrap=index == 0 or name == "removed")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in cells))
