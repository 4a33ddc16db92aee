"""`deeprebirth inspect`."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import JsonOption, ModelArgument, ShapeOption, input_shapes
from pipeline.report.tables import printable

if TYPE_CHECKING:
    from pipeline.inspection import Inspection

FOLLOWERS = ("add", "relu", "prelu", "leakyrelu", "clip")


def inspect(
    model: ModelArgument,
    input_shape: ShapeOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Print the layer table of MODEL and its merge plan, refusals with reasons."""
    from pipeline import inspect as run

    inspection = run(model, input_shapes=input_shapes(input_shape))
    if as_json:
        print(inspection.model_dump_json())
    else:
        _print(inspection, Console())


def _print(inspection: "Inspection", console: Console) -> None:
    console.print(_layers(inspection))
    console.print(_merges(inspection))
    console.print(_refusals(inspection))
    before, after = inspection.original, inspection.merged
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
    table = _table("Merges", ("merge", "kind", "weights", "removed"), ("macs", "parameters"))
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
