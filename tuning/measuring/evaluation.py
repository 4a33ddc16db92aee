"""Takes a candidate's run times: one run alone, then repeats until they are steady or a budget is spent."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuning.measuring.limits import Limits
from tuning.measuring.steadiness import is_steady, judge, repeats_wanted

if TYPE_CHECKING:
    from tvm.runtime import Device, Module, Tensor

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
        return all(map(_believable, self.seconds))


def evaluate(take: Timer, limits: Limits, seconds: float, best: float | None = None) -> Evaluation:
    """Take run times.

    Parameters
    ----------
    take : callable
        ``take(number, repeat)`` makes one run to warm up and then ``repeat`` times ``number`` runs, and
        returns the mean seconds of a run, ``repeat`` numbers.
    seconds : float
        No repeat is begun that would end later than this.
    best : float, optional
        Seconds of the best candidate known.

    Returns
    -------
    Evaluation
        If some times are not above zero, these alone, and ``valid`` is false.
    """
    started = time.monotonic()
    (first,) = take(1, 1)
    if not _believable(first):
        return Evaluation((first,), steady=False)
    number = _runs_of_a_repeat(first, limits)
    times = [first] if number == 1 else []
    while True:
        spent = time.monotonic() - started
        possible = int((seconds - spent) / (_SAFETY * first * number)) - 1
        repeat = min(repeats_wanted(times, spent, best, limits), possible)
        if repeat < 1:
            return _summed_up(times or [first], limits)
        more = take(number, repeat)
        if doubtful := [each for each in more if not _believable(each)]:
            return Evaluation(tuple(doubtful), steady=False)
        times += more


def timer(
    library: "Module", device: "Device", arguments: "list[Tensor]", function: str | None = None
) -> Timer:
    """Return the timer of a library's function with arguments, all of them on a device.

    The function is that of the name, or else the library's only one.
    """
    name = library.entry_name if function is None else function

    def take(number: int, repeat: int) -> list[float]:
        timed = library.time_evaluator(name, device, number=number, repeat=repeat)
        return [float(seconds) for seconds in timed(*arguments).results]

    return take


def _believable(seconds: float) -> bool:
    return 0 < seconds < math.inf


def _runs_of_a_repeat(first: float, limits: Limits) -> int:
    return min(_MOST_RUNS, max(1, math.ceil(limits.repeat_seconds / first)))


def _summed_up(times: list[float], limits: Limits) -> Evaluation:
    judgement = judge(times)
    return Evaluation(judgement.kept, judgement.outliers, is_steady(times, limits))
