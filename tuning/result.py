"""What tuning is allowed to spend, and what it found."""

from dataclasses import dataclass

from tuning.errors import Mistake
from tuning.failures import Cause
from tuning.records.database import Cleaning


@dataclass(frozen=True)
class Budget:
    """When tuning ends: after so many trials of this network, or after so many seconds, whichever is first.

    Trials that the database holds count; seconds are those of this session.

    Raises
    ------
    Mistake
        If neither is given, or one is not positive.
    """

    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [limit for limit in (self.trials, self.seconds) if limit is not None]
        if not given:
            raise Mistake("tuning needs an end: give a number of trials, or seconds")
        if min(given) <= 0:
            raise Mistake("a number of trials, or of seconds, is at least 1")


@dataclass(frozen=True)
class TaskResult:
    """What tuning found for one task.

    Attributes
    ----------
    name : str
        The TIR function's name.
    weight : int
        How often the network calls it; 0 if another function that computes the same is faster.
    trials, failed : int
        Candidates measured, earlier runs included, and how many of them failed.
    best_us : float or None
        Microseconds of the best schedule; None if there is none.
    """

    name: str
    weight: int
    trials: int
    failed: int
    best_us: float | None


@dataclass(frozen=True)
class TuningResult:
    """What tuning did.

    Attributes
    ----------
    tasks : tuple of TaskResult
        In the order of the network's tasks.
    trials_measured, trials_reused : int
        Trials made this time, and those the database held before.
    failures : dict of Cause to int
        How many trials of this time failed for each cause.
    wrong, uncompared : tuple of str
        Tasks with a schedule that computed something else than the untuned function and was banned, and
        those whose schedule could not be compared with it.
    outliers, unsteady : int
        Run times that were left out, and trials whose times did not settle.
    cleaning : Cleaning
        What was left out of the database when it was read.
    seconds : float
        How long it took.
    stages : dict of str to float
        Seconds in which each stage had something to do.
    """

    tasks: tuple[TaskResult, ...]
    trials_measured: int
    trials_reused: int
    failures: dict[Cause, int]
    wrong: tuple[str, ...]
    uncompared: tuple[str, ...]
    outliers: int
    unsteady: int
    cleaning: Cleaning
    seconds: float
    stages: dict[str, float]

    @property
    def network_ms(self) -> float | None:
        """Milliseconds of the whole network, summed over its functions; None if one has no schedule."""
        called = [task for task in self.tasks if task.weight]
        if any(task.best_us is None for task in called):
            return None
        return sum(task.weight * task.best_us for task in called) / 1e3
