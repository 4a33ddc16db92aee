"""How long measuring a candidate may take, and when enough was measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one candidate's measurement.

    Attributes
    ----------
    trial_seconds : float
        The device ends a candidate that takes longer, its library's transfer not counted.
    return_seconds : float
        How long a candidate waits when no device is there.
    least_repeats, most_repeats : int
        Run times that are taken at least and at most.
    repeat_seconds : float
        A run time is the mean of so many runs that they take this long together.
    measure_seconds : float
        No more run times are taken after so many seconds.
    spread : float
        Enough was measured once the interquartile range is below this share of the median.
    hopeless : float
        A candidate that takes so many times as long as the best one is not measured further.
    """

    trial_seconds: float = 15.0
    return_seconds: float = 60.0
    least_repeats: int = 3
    most_repeats: int = 12
    repeat_seconds: float = 0.01
    measure_seconds: float = 2.0
    spread: float = 0.03
    hopeless: float = 3.0
