"""`deeprebirth retrain`."""

import json
import os
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
    SvdOption,
    TuckerOption,
    input_shapes,
    merge_request,
)
from pipeline.cli.training import (
    BatchSizeOption,
    ClassesOption,
    DataOption,
    EpochsOption,
    MaxDropOption,
    MetricOption,
    PreprocessingOption,
    RecipeOption,
    ValidationOption,
    groups,
    settings,
)

if TYPE_CHECKING:
    from pipeline.retraining import Retrained


def retrain(
    model: ModelArgument,
    data: DataOption,
    validation: ValidationOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The directory to write.")] = Path("retrained"),
    recipe: RecipeOption = None,
    max_drop: MaxDropOption = None,
    epochs: EpochsOption = None,
    finish_epochs: Annotated[
        float | None,
        typer.Option(help="Passes after the last step, as long as too much is lost; by default 0."),
    ] = None,
    keep_all: Annotated[
        bool, typer.Option("--keep-all", help="Keep the steps that lose more than --max-drop, too.")
    ] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Mirror half of the training samples left to right.")
    ] = False,
    batch_size: BatchSizeOption = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the layers that stay; by default the recipe's own.")
    ] = None,
    group: Annotated[
        list[str],
        typer.Option(
            metavar="MERGE,...", help="Merges (names, with *) that are retrained together; repeatable."
        ),
    ] = [],  # noqa: B006
    evaluate_every: Annotated[
        int | None,
        typer.Option(
            metavar="BATCHES", help="Between two looks at the validation data; by default a tenth of a step."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the order of the samples and of new weights; by default 0.")
    ] = None,
    metric: MetricOption = None,
    preprocessing: PreprocessingOption = None,
    classes: ClassesOption = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION", help="The loss of outputs and labels; by default the metric's."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; by default all.")] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="Between two checkpoints inside a step.")
    ] = 10.0,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write logs for TensorBoard to this directory.")
    ] = None,
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
    """Merge MODEL step by step and retrain it, with the accuracy after each step.

    The merged network is written as ONNX beside a record of what was done; `inspect`, `export` and `deploy`
    take the directory. The same command again goes on where it stopped.
    """
    from pipeline import retrain as run
    from pipeline.console import Progress

    quiet = not _is_first_process()
    with Progress(quiet=quiet) as progress:
        progress.stage("Retraining")
        retrained = run(
            model,
            data=data,
            validation=validation,
            out=out,
            input_shapes=input_shapes(input_shape),
            request=merge_request(
                only, skip, plan, tucker, energy, ratio, svd, rank_multiple, retraining=True
            ),
            settings=settings(
                recipe=recipe,
                max_drop=max_drop,
                epochs=epochs,
                finish_epochs=finish_epochs,
                keep_all=keep_all,
                mirror=mirror,
                batch_size=batch_size,
                learning_rate=learning_rate,
                groups=groups(group),
                evaluate_every=evaluate_every,
                seed=seed,
            ),
            metric=metric or "top-1",
            preprocessing=preprocessing,
            classes=classes,
            loss=loss,
            threads=threads,
            checkpoint_minutes=checkpoint_minutes,
            tensorboard=tensorboard,
            show=progress.training,
            say=progress.say,
        )
    if not quiet:
        _print(retrained, as_json)


def _is_first_process() -> bool:
    """Whether this process is the one of those that torchrun started to speak for all."""
    return os.environ.get("RANK", "0") == "0"


def _print(retrained: "Retrained", as_json: bool) -> None:
    from pipeline.report.accuracy import accuracy_of
    from pipeline.report.terminal import print_accuracy

    if as_json:
        record = retrained.record
        places = {"directory": str(retrained.directory), "file": str(retrained.network)}
        print(json.dumps(record.model_dump(mode="json") | {"drop": record.drop} | places))
    else:
        print_accuracy(accuracy_of(retrained.record), Console(), (retrained.network, retrained.directory))
