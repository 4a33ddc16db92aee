"""`deeprebirth tune`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from pipeline.cli.options import JsonOption, ModelArgument, ShapeOption, input_shapes
from pipeline.cli.tuning import (
    BuildersOption,
    CompilerOption,
    DatabaseOption,
    DeviceOption,
    DevicesOption,
    ExactMathOption,
    KeyOption,
    MergeDbOption,
    TargetOption,
    ThreadsOption,
    TimeBudgetOption,
    TrialsOption,
    tuning_of,
)

if TYPE_CHECKING:
    from pipeline.tuner import Tuned


def tune(
    model: ModelArgument,
    target: TargetOption = "host",
    trials: TrialsOption = None,
    time_budget: TimeBudgetOption = None,
    tracker: DevicesOption = None,
    key: KeyOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    cc: CompilerOption = None,
    database: DatabaseOption = None,
    merge_db: MergeDbOption = [],  # noqa: B006
    builders: BuildersOption = None,
    exact_math: ExactMathOption = False,
    input_shape: ShapeOption = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Tune MODEL as it is, and keep every measurement; the same command again goes on where it stopped.

    Without --tracker, a tracker and an RPC server are started for the run; both listen on the loopback
    address only. `deploy` with the same database uses the records; `report` draws the session's log.
    """
    from pipeline import tune as run
    from pipeline.console import Progress

    tuned = run(
        model,
        target=target,
        input_shapes=input_shapes(input_shape),
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
        print(json.dumps(tuned.summary()))
    else:
        _print(tuned, Console())


def _print(tuned: "Tuned", console: Console) -> None:
    from pipeline.report.terminal import print_written

    console.print(Text(tuned.headline(), style="bold"))
    print_written((tuned.records, tuned.log), console)
