"""Which run times are outliers, and whether more of them are needed.

A run that something else on the device disturbed takes longer, never shorter. So only times above the others
are left out, by the modified z-score of Iglewicz and Hoaglin ("How to Detect and Handle Outliers", ASQC
1993):

    z = 0.6745 (t - median) / MAD,   an outlier if z > 3.5,

where MAD is the median distance from the median, and 0.6745 makes it comparable to a standard deviation.
MAD is taken as two percent of the median at least: few times may agree by chance, and what lies within some
ten percent of the others is no outlier.

The spread of those that remain is their interquartile range over their median.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuning.measuring.limits import Limits

_Z_OF_AN_OUTLIER = 3.5
_NORMAL = 0.6745
_LEAST_MAD = 0.02


@dataclass(frozen=True)
class Judgement:
    """Run times without outliers in the order they came, how many were left out, and the others' spread."""

    kept: tuple[float, ...]
    outliers: int
    spread: float


def judge(times: Sequence[float]) -> Judgement:
    """Leave out outliers.

    Parameters
    ----------
    times : sequence of float
        At least one run time, all above zero, in any unit.
    """
    values = np.asarray(times, dtype=float)
    median = np.median(values)
    deviation = max(np.median(np.abs(values - median)), _LEAST_MAD * median)
    kept = values[_NORMAL * (values - median) <= _Z_OF_AN_OUTLIER * deviation]
    low, middle, high = np.percentile(kept, (25, 50, 75))
    return Judgement(tuple(kept.tolist()), len(values) - len(kept), float((high - low) / middle))


def is_steady(times: Sequence[float], limits: Limits) -> bool:
    """Tell whether enough run times are there and their spread is small."""
    if len(times) < limits.least_repeats:
        return False
    judgement = judge(times)
    return len(judgement.kept) >= limits.least_repeats and judgement.spread < limits.spread


def repeats_wanted(times: Sequence[float], spent: float, best: float | None, limits: Limits) -> int:
    """Return how many more run times to take; 0 ends measuring.

    Parameters
    ----------
    times : sequence of float
        Run times so far, in seconds, all above zero.
    spent : float
        Seconds that measuring has taken.
    best : float or None
        Seconds of the best candidate known, None if there is none.
    """
    hopeless = bool(times) and best is not None and min(times) > limits.hopeless * best
    if hopeless or spent >= limits.measure_seconds or is_steady(times, limits):
        return 0
    missing = limits.least_repeats - len(times)
    return min(missing if missing > 0 else limits.least_repeats, limits.most_repeats - len(times))
