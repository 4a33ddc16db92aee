"""`deeprebirth deploy`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.options import (
    EnergyOption,
    JsonOption,
    ModelArgument,
    OnlyOption,
    PlanOption,
    RatioOption,
    ShapeOption,
    SkipOption,
    StructureOnlyOption,
    TuckerOption,
    input_shapes,
    merge_request,
)
from pipeline.defaults import TRIALS


def deploy(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="The directory to write.")] = Path("deployed"),
    target: Annotated[str, typer.Option(help="What to build for; see `deeprebirth targets`.")] = "host",
    trials: Annotated[int, typer.Option(help="Candidates to measure for each of the two networks.")] = TRIALS,
    structure_only: StructureOnlyOption = False,
    only: OnlyOption = [],  # noqa: B006
    skip: SkipOption = [],  # noqa: B006
    plan: PlanOption = None,
    tucker: TuckerOption = False,
    energy: EnergyOption = None,
    ratio: RatioOption = None,
    threads: Annotated[int | None, typer.Option(help="Cores to use; by default all.")] = None,
    input_shape: ShapeOption = [],  # noqa: B006
    database: Annotated[
        Path | None, typer.Option(help="Where tuning records are kept; by default the user's data directory.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search and of the golden input.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Merge, tune, compile, verify and measure MODEL, and write bundles and a report.

    Without training data only exact merges are made. A tracker and an RPC server are started for the run;
    both listen on the loopback address only.
    """
    from pipeline import deploy as run
    from pipeline.console import Progress
    from pipeline.report.terminal import print_report

    deployment = run(
        model,
        out=out,
        target=target,
        input_shapes=input_shapes(input_shape),
        trials=trials,
        request=merge_request(
            only, skip, plan, tucker=tucker, energy=energy, ratio=ratio, retraining=structure_only
        ),
        threads=threads,
        database=database,
        seed=seed,
        progress=Progress(),
    )
    if as_json:
        print(deployment.report.model_dump_json())
    else:
        print_report(deployment.report, Console(), deployment.results)
