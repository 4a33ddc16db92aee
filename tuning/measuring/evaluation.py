"""Takes a candidate's run times: one run alone, then repeats until they are steady or a budget is spent."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tuning.measuring.limits import Limits
from tuning.measuring.steadiness import is_steady, judge, repeats_wanted

Timer = Callable[[int, int], list[float]]
_MOST_RUNS = 1_000_000
_SAFETY = 1.5


@dataclass(frozen=True)
class Evaluation:
    """Run times in seconds without outliers, how many were left out, and whether the rest are steady."""

    seconds: tuple[float, ...]
    outliers: int = 0
    steady: bool = True

    @property
    def valid(self) -> bool:
        """Whether every time is above zero, so that the device's clock can be believed."""
        return all(each > 0 and math.isfinite(each) for each in self.seconds)


def evaluate(timer: Timer, limits: Limits, seconds: float, best: float | None = None) -> Evaluation:
    """Take run times.

    Parameters
    ----------
    timer : callable
        ``timer(number, repeat)`` makes one run to warm up and then ``repeat`` times ``number`` runs, and
        returns the mean seconds of a run, ``repeat`` numbers.
    seconds : float
        No repeat is begun that would end later than this.
    best : float, optional
        Seconds of the best candidate known.

    Returns
    -------
    Evaluation
        If a time is not above zero, that time alone, and ``valid`` is false.
    """
    started = time.monotonic()
    (first,) = timer(1, 1)
    if not first > 0:
        return Evaluation((first,), steady=False)
    number = _runs_of_a_repeat(first, limits)
    times = [first] if number == 1 else []
    while True:
        spent = time.monotonic() - started
        possible = int((seconds - spent) / (_SAFETY * first * number)) - 1
        repeat = min(repeats_wanted(times, spent, best, limits), possible)
        if repeat < 1:
            return _summed_up(times or [first], limits)
        more = timer(number, repeat)
        if not min(more) > 0:
            return Evaluation((min(more),), steady=False)
        times += more


def _runs_of_a_repeat(first: float, limits: Limits) -> int:
    return min(_MOST_RUNS, max(1, math.ceil(limits.repeat_seconds / first)))


def _summed_up(times: list[float], limits: Limits) -> Evaluation:
    judgement = judge(times)
    return Evaluation(judgement.kept, judgement.outliers, is_steady(times, limits))
