"""Candidates on their way: built, then measured, several of each at a time.

Where the device is another machine, a candidate is sent to it as soon as it is built, while others are
searched and built. Where the device is this machine, all that are under way are built first, and then
measured one at a time with nothing else running, as each would disturb the other's time.
"""

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

from tuning.building.built import Builder, Built
from tuning.measuring.measured import Measured
from tuning.measuring.runner import Runner
from tuning.searching.budget import ROUND
from tuning.stages import Stages
from tuning.tasks import Task


@dataclass
class Batch:
    """The candidates of one round, and what became of them; the search learns from them together."""

    task: Task
    candidates: list[MeasureCandidate]
    results: dict[int, Measured] = field(default_factory=dict)

    def take(self, trial: "Trial") -> bool:
        """Take in what became of a trial; tell whether it was the last one."""
        self.results[trial.place] = trial.measured
        return len(self.results) == len(self.candidates)

    def learn(self) -> None:
        """Tell the search what measuring gave."""
        results = [_told(self.results[place]) for place in range(len(self.candidates))]
        self.task.search.learn(self.candidates, results)


@dataclass(eq=False)
class Trial:
    """One candidate of a batch on its way."""

    batch: Batch
    place: int
    built: Built | None = None
    measured: Measured | None = None

    @property
    def candidate(self) -> MeasureCandidate:
        """What is tried."""
        return self.batch.candidates[self.place]


class Flow:
    """Takes batches and gives back trials as they end.

    What a builder gives is handed on by the builder's thread, so that devices get work during a search.

    Parameters
    ----------
    builder, runner
        What builds and measures; they are closed by their owner.
    stages : Stages
        Told what is busy.
    alone : bool
        Whether nothing else may run while a candidate is measured.
    """

    def __init__(self, builder: Builder, runner: Runner, stages: Stages, alone: bool) -> None:
        self._builder, self._runner, self._stages, self._alone = builder, runner, stages, alone
        self._happened: queue.SimpleQueue[Trial | Exception | None] = queue.SimpleQueue()
        self._builds: set[Future[Built]] = set()
        self._built: deque[Trial] = deque()
        self._lock = threading.Lock()
        self._measuring = 0
        self.under_way = 0

    @property
    def wants_more(self) -> bool:
        """Whether builders or devices will soon be without work."""
        if self._alone:
            return self.under_way == 0
        return self.under_way < ROUND + 2 * (self._builder.slots + self._runner.slots)

    def add(self, batch: Batch) -> None:
        """Start building a batch."""
        for place, candidate in enumerate(batch.candidates):
            self.under_way += 1
            self._stages.enter("build")
            future = self._builder.submit(candidate.sch.mod)
            with self._lock:
                self._builds.add(future)
            future.add_done_callback(partial(self._after_build, Trial(batch, place)))

    def next(self, seconds: float) -> Trial | None:
        """Return a trial that ended, or None if none does within so many seconds.

        Raises
        ------
        TuningError
            If nothing can be built or measured any more.
        """
        deadline = time.monotonic() + seconds
        while self.under_way:
            self._send_alone()
            try:
                happened = self._happened.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if isinstance(happened, Exception):
                raise happened
            if happened is not None:
                self.under_way -= 1
                return happened
        return None

    def drop(self) -> None:
        """Give up what nobody has begun to build or to measure."""
        with self._lock:
            builds, built = list(self._builds), list(self._built)
            self._built.clear()
        self.under_way -= sum(future.cancel() for future in builds) + len(built)
        for trial in built:
            trial.built.discard()

    def _after_build(self, trial: Trial, future: "Future[Built]") -> None:
        self._stages.leave("build")
        with self._lock:
            self._builds.discard(future)
        if future.cancelled():
            return
        if future.exception() is not None:
            self._happened.put(future.exception())
            return
        trial.built = future.result()
        if trial.built.failure is not None:
            trial.measured = Measured(failure=trial.built.failure)
            self._happened.put(trial)
        elif self._alone:
            with self._lock:
                self._built.append(trial)
            self._happened.put(None)
        else:
            self._send(trial)

    def _send_alone(self) -> None:
        """Measure one of what was built, if nothing else is going on."""
        with self._lock:
            if self._builds or self._measuring or not self._built:
                return
            trial = self._built.popleft()
        self._send(trial)

    def _send(self, trial: Trial) -> None:
        with self._lock:
            self._measuring += 1
        self._stages.enter("measure")
        arguments = tuple(trial.candidate.args_info)
        future = self._runner.submit(trial.built.path, arguments, trial.batch.task.state.best_seconds)
        future.add_done_callback(partial(self._after_measuring, trial))

    def _after_measuring(self, trial: Trial, future: "Future[Measured]") -> None:
        self._stages.leave("measure")
        with self._lock:
            self._measuring -= 1
        trial.built.discard()
        if future.cancelled():
            return
        if future.exception() is not None:
            self._happened.put(future.exception())
            return
        trial.measured = future.result()
        self._happened.put(trial)


def _told(measured: Measured) -> RunnerResult:
    if measured.failure is None:
        return RunnerResult(list(measured.seconds), None)
    return RunnerResult(None, str(measured.failure))
