"""`deeprebirth deploy`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

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
from pipeline.cli.training import (
    BatchSizeOption,
    ClassesOption,
    EpochsOption,
    MaxDropOption,
    MetricOption,
    PreprocessingOption,
    RecipeOption,
    ValidationOption,
    settings,
)
from pipeline.cli.tuning import (
    BuildersOption,
    CompilerOption,
    DatabaseOption,
    DeviceOption,
    DevicesOption,
    ExactMathOption,
    KeyOption,
    MergeDbOption,
    TargetsOption,
    ThreadsOption,
    TimeBudgetOption,
    TrialsOption,
    tuning_of,
)
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.deployment import Training
    from pipeline.retraining import Settings


def deploy(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The directory to write.")] = Path("deployed"),
    target: TargetsOption = ["host"],  # noqa: B006
    trials: TrialsOption = None,
    time_budget: TimeBudgetOption = None,
    tracker: DevicesOption = None,
    key: KeyOption = None,
    structure_only: StructureOnlyOption = False,
    retrained: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the merged network that `retrain` wrote here.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Retrain first, on this data; see `deeprebirth retrain`.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, or float16 where the target's processor computes in it.")
    ] = "float32",
    weights: Annotated[
        str | None, typer.Option(help="int8: the bundle stores weights in a quarter of the size.")
    ] = None,
    validation: ValidationOption = None,
    metric: MetricOption = None,
    preprocessing: PreprocessingOption = None,
    classes: ClassesOption = None,
    recipe: RecipeOption = None,
    max_drop: MaxDropOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = None,
    only: OnlyOption = [],  # noqa: B006
    skip: SkipOption = [],  # noqa: B006
    plan: PlanOption = None,
    tucker: TuckerOption = False,
    energy: EnergyOption = None,
    ratio: RatioOption = None,
    svd: SvdOption = False,
    rank_multiple: RankMultipleOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    cc: CompilerOption = None,
    input_shape: ShapeOption = [],  # noqa: B006
    database: DatabaseOption = None,
    merge_db: MergeDbOption = [],  # noqa: B006
    builders: BuildersOption = None,
    exact_math: ExactMathOption = False,
    seed: Annotated[int, typer.Option(help="Seed of the search, of the golden input and of retraining.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Merge, tune, compile, verify and measure MODEL, and write bundles and a report.

    With --data the merged layers are retrained first, in the directory OUT.retraining, and a run that was
    broken off goes on. Without, only exact merges are made. Without --tracker, a tracker and an RPC server
    are started for the run; both listen on the loopback address only. Several targets are measured in turns,
    and the report says which of them to ship.
    """
    from pipeline import deploy as run
    from pipeline.console import Progress
    from pipeline.report.comparison_pages import print_comparison
    from pipeline.report.terminal import print_report

    merging = {
        "only": only,
        "skip": skip,
        "plan": plan,
        "tucker": tucker,
        "energy": energy,
        "ratio": ratio,
        "svd": svd,
        "rank_multiple": rank_multiple,
    }
    numbers = {"recipe": recipe, "max_drop": max_drop, "epochs": epochs, "batch_size": batch_size}
    samples = {"validation": validation, "metric": metric, "preprocessing": preprocessing, "classes": classes}
    _check_source({"structure_only": structure_only, "retrained": retrained, "data": data})
    if retrained is not None:
        _check_unused(merging, "--retrained takes the merges that were made then")
    if data is None:
        alone = samples | ({} if dtype == "float32" and weights is None else {"validation": None})
        _check_unused(alone | numbers, "it is for retraining, which needs --data")
    deployment = run(
        model,
        out=out,
        target=target[0],
        targets=target if len(target) > 1 else (),
        input_shapes=input_shapes(input_shape),
        request=merge_request(**merging, retraining=structure_only or data is not None),
        retrained=retrained,
        training=None if data is None else _training(data, samples, settings(**numbers, seed=seed)),
        dtype=dtype,
        weights=weights,
        validation=validation if data is None else None,
        tuning=tuning_of(
            trials,
            time_budget,
            tracker,
            key,
            device,
            threads,
            cc,
            database,
            merge_db,
            builders,
            exact_math,
        ),
        seed=seed,
        progress=Progress(),
    )
    if as_json:
        print(deployment.report.model_dump_json())
    else:
        show = print_comparison if deployment.targets else print_report
        show(deployment.report, Console(), deployment.results)


def _training(data: str, samples: dict[str, object], how: "Settings") -> "Training":
    from pipeline.deployment import Training

    given = {name: value for name, value in samples.items() if value is not None}
    return Training(data=data, settings=how, **given)


def _check_source(sources: dict[str, object]) -> None:
    """Insist that merged layers get their weights from one source."""
    given = [_option(name) for name, value in sources.items() if _is_given(value)]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} contradict each other: give one of them")


def _check_unused(options: dict[str, object], why: str) -> None:
    for name, value in options.items():
        if _is_given(value):
            raise UserError(f"{_option(name)} has no use here: {why}")


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != []


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
