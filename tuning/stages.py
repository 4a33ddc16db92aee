"""Seconds of wall time in which each stage of tuning had something to do."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tuning.progress import Stage


class Stages:
    """Counts who is busy; stages overlap, so their seconds may sum up to more than the time that passed.

    Parameters
    ----------
    clock : callable
        Seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._busy: dict[Stage, int] = {}
        self._since: dict[Stage, float] = {}
        self._seconds: dict[Stage, float] = {}

    def enter(self, stage: Stage) -> None:
        """Tell that one more has something to do in a stage."""
        with self._lock:
            self._busy[stage] = self._busy.get(stage, 0) + 1
            if self._busy[stage] == 1:
                self._since[stage] = self._clock()

    def leave(self, stage: Stage) -> None:
        """Tell that one of them is done."""
        with self._lock:
            self._busy[stage] -= 1
            if self._busy[stage] == 0:
                passed = self._clock() - self._since[stage]
                self._seconds[stage] = self._seconds.get(stage, 0.0) + passed

    @contextmanager
    def busy(self, stage: Stage) -> Iterator[None]:
        """Be busy in a stage for the ``with`` block."""
        self.enter(stage)
        try:
            yield
        finally:
            self.leave(stage)

    def seconds(self) -> dict[Stage, float]:
        """Return the seconds of each stage so far; in ``idle`` ones no device had anything to do."""
        with self._lock:
            now = self._clock()
            running = {stage: now - self._since[stage] for stage, busy in self._busy.items() if busy}
            stages = {*self._seconds, *running}
            found = {stage: self._seconds.get(stage, 0.0) + running.get(stage, 0.0) for stage in stages}
        on_device = found.get("measure", 0.0) + found.get("check", 0.0)
        return found | {"idle": max(0.0, now - self._started - on_device)}
