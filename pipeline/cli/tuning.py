"""Options of the commands that tune."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.tracker_address import tracker_address
from pipeline.defaults import TRIALS
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tuner import Tuning

DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s?)?")
SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}

TargetOption = Annotated[
    str,
    typer.Option(
        help="What to build for: a name from `deeprebirth targets`, a TOML file, or auto: what the device is."
    ),
]
TargetsOption = Annotated[
    list[str],
    typer.Option(
        "--target",
        help="What to build for: a name from `deeprebirth targets`, a TOML file, or auto: what the device "
        "is. Several are compared in one report.",
    ),
]
TrialsOption = Annotated[
    int | None,
    typer.Option(
        help="Candidates to measure for each network, those already in the database included; "
        f"by default {TRIALS}, or no limit with --time-budget."
    ),
]
TimeBudgetOption = Annotated[
    str | None, typer.Option(metavar="30m", help="Tune each network for so long: 90s, 30m, 1h30m.")
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--tracker",
        metavar="HOST:PORT",
        help="Measure on the devices of this tracker; by default on this machine.",
    ),
]
KeyOption = Annotated[str | None, typer.Option(help="The key of the devices at the tracker.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Which OpenCL device of this machine: its number in `deeprebirth doctor`, or part of its name "
        "or its platform's; by default the first.",
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(help="Cores to use on the device; by default all.")]
CompilerOption = Annotated[
    str | None,
    typer.Option("--cc", metavar="PROGRAM", help="Link with this C++ compiler; by default the target's own."),
]
DatabaseOption = Annotated[
    Path | None, typer.Option(help="Where tuning records are kept; by default the user's data directory.")
]
MergeDbOption = Annotated[
    list[Path],
    typer.Option(metavar="DIR", help="Take over the records of another database first; repeatable."),
]
BuildersOption = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT", help="Build candidates on this Dask cluster; by default on this machine."
    ),
]

ExactMathOption = Annotated[
    bool,
    typer.Option(
        "--exact-math",
        help="Compute convolutions directly only, not by Winograd's algorithm where it is faster.",
    ),
]


def tuning_of(
    trials: int | None,
    time_budget: str | None,
    tracker: str | None,
    key: str | None,
    device: str | None,
    threads: int | None,
    cc: str | None,
    database: Path | None,
    merge_db: list[Path],
    builders: str | None,
    exact_math: bool,
) -> "Tuning":
    """What the options for tuning ask for.

    Raises
    ------
    UserError
        The time budget is spelt otherwise.
    """
    from pipeline.tuner import Tuning

    return Tuning(
        trials=TRIALS if trials is None and time_budget is None else trials,
        seconds=None if time_budget is None else duration(time_budget),
        tracker=None if tracker is None else tracker_address(tracker),
        key=key,
        device=device,
        threads=threads,
        cc=cc,
        database=database,
        merge_db=tuple(merge_db),
        builders=builders,
        exact_math=exact_math,
    )


def duration(text: str) -> float:
    """Read seconds from ``90``, ``90s``, ``30m`` or ``1h30m``.

    Raises
    ------
    UserError
        It is spelt otherwise.
    """
    match = DURATION.fullmatch(text.strip())
    found = {unit: float(value) for unit, value in match.groupdict().items() if value} if match else {}
    if not found:
        raise UserError(f"--time-budget {text}: write it as 90s, 30m or 1h30m")
    return sum(SECONDS[unit] * value for unit, value in found.items())
