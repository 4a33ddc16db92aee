"""Whether a device got slower since its first candidate, which is measured again at intervals.

A device that is hot lowers its clock. What is measured then cannot be compared with what was measured before,
so the device rests until its first candidate, the reference, takes as long as at first. The functions here
decide from given times; who measures and waits is elsewhere.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True)
class Pace:
    """When to look after a device, and how patient to be with it.

    Attributes
    ----------
    trials, seconds
        The reference is measured again after so many candidates or seconds, whichever comes first.
    slower : float
        The device is throttling if the reference takes so many times as long as at first.
    back : float
        It has cooled down once the reference takes at most so many times as long as at first.
    rest_seconds : float
        How long a hot device rests between two looks at it.
    patience_seconds : float
        After so long the new level is taken for what the device can do.
    """

    trials: int = 64
    seconds: float = 60.0
    slower: float = 1.15
    back: float = 1.10
    rest_seconds: float = 5.0
    patience_seconds: float = 120.0


@dataclass(frozen=True)
class Level:
    """What a device's reference took at first, in seconds, and what happened since.

    Attributes
    ----------
    seconds : float
        The shortest run of the reference.
    checked_at : float
        When it was measured last, on a clock that only goes forward.
    trials : int
        Candidates measured since.
    hot_since : float or None
        When the device was found throttling; None if it is not.
    """

    seconds: float
    checked_at: float
    trials: int = 0
    hot_since: float | None = None

    @property
    def hot(self) -> bool:
        """Whether the device rests."""
        return self.hot_since is not None

    def after_trial(self) -> "Level":
        """Return the level after one more candidate."""
        return replace(self, trials=self.trials + 1)


class Finding(StrEnum):
    """What measuring the reference again told."""

    STEADY = "steady"
    THROTTLING = "throttling"
    STILL_HOT = "still hot"
    COOLED_DOWN = "cooled down"
    NEW_LEVEL = "new level"


def is_due(level: Level, pace: Pace, now: float) -> bool:
    """Tell whether the reference is to be measured again."""
    waited = level.trials >= pace.trials or now - level.checked_at >= pace.seconds
    return level.hot or (level.trials > 0 and waited)


def rest_seconds(level: Level, pace: Pace, now: float) -> float:
    """Return how long a device has to rest before its reference is measured; 0 if it is not hot."""
    return max(0.0, level.checked_at + pace.rest_seconds - now) if level.hot else 0.0


def after_check(level: Level, pace: Pace, seconds: float, now: float) -> tuple[Level, Finding]:
    """Return the level after the reference took ``seconds``, and what that tells.

    A reference that got faster by as much as a cooled device may differ is a new level, too: the device was
    hot, or busy, when it was measured first.
    """
    checked = Level(level.seconds, now)
    if level.hot:
        return _after_rest(level, pace, seconds, checked)
    if seconds > pace.slower * level.seconds:
        return replace(checked, hot_since=now), Finding.THROTTLING
    if pace.back * seconds < level.seconds:
        return Level(seconds, now), Finding.STEADY
    return checked, Finding.STEADY


def _after_rest(level: Level, pace: Pace, seconds: float, checked: Level) -> tuple[Level, Finding]:
    if seconds <= pace.back * level.seconds:
        return checked, Finding.COOLED_DOWN
    if checked.checked_at - level.hot_since >= pace.patience_seconds:
        return replace(checked, seconds=seconds), Finding.NEW_LEVEL
    return replace(checked, hot_since=level.hot_since), Finding.STILL_HOT
