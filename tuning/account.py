"""The account of a session: what happened is counted, logged line by line, and summed up at the end."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata

from targets import TargetInfo
from tuning.devices.session import Session
from tuning.errors import TuningError
from tuning.failures import Cause
from tuning.flow import Trial
from tuning.progress import (
    DeviceProgress,
    Line,
    Note,
    SessionEnded,
    SessionStarted,
    Subject,
    TuningProgress,
)
from tuning.progress import Trial as TrialLine
from tuning.records.verdicts import Verdict
from tuning.result import Budget
from tuning.searching.budget import ROUND
from tuning.stages import Stages
from tuning.tasks import Task

_VERSIONED = ("deeprebirth", "apache-tvm", "apache-tvm-ffi", "xgboost")
_SPENT = "time spent"


class Account:
    """Counts and logs.

    Parameters
    ----------
    tasks : sequence of Task
        Of the network.
    target : TargetInfo
        What it is tuned for.
    session : Session
        What it is measured on.
    budget : Budget
        When the session ends.
    log : callable, optional
        Given each line.
    say : callable, optional
        Told what the user should know.

    Attributes
    ----------
    stages : Stages
        Who is busy with what.
    failures : dict of Cause to int
    outliers, unsteady : int
        Run times left out, and trials whose times did not settle.
    reused : int
        Trials that the database held before.
    peak_gflops : float or None
        What the device's arithmetic reaches at most.
    wrong, uncompared : list of str
        Tasks with a schedule that was banned, and those whose schedule could not be compared.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        target: TargetInfo,
        session: Session,
        budget: Budget,
        log: Callable[[Line], None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._tasks, self._target, self._session, self._budget = tasks, target, session, budget
        self._writing = threading.Lock()
        self._log = log or (lambda line: None)
        self._say = say or (lambda line: None)
        self._started = time.monotonic()
        self._current: int | None = None
        self.stages = Stages()
        self.failures: dict[Cause, int] = {}
        self.outliers = self.unsteady = 0
        self.reused = self.done
        self.peak_gflops: float | None = None
        self.wrong: list[str] = []
        self.uncompared: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the session began."""
        return time.monotonic() - self._started

    @property
    def done(self) -> int:
        """Trials of this network that the database holds."""
        return sum(task.state.trials for task in self._tasks)

    @property
    def trials_left(self) -> int | None:
        """Trials that may still be begun; None if their number is no limit."""
        if self._budget.trials is None:
            return None
        return self._budget.trials - self.done - sum(task.state.pending for task in self._tasks)

    @property
    def is_spent(self) -> bool:
        """Whether no trial may be begun any more."""
        return self.time_is_up or (self.trials_left is not None and self.trials_left <= 0)

    @property
    def time_is_up(self) -> bool:
        """Whether the seconds are spent."""
        return self._budget.seconds is not None and self.seconds >= self._budget.seconds

    @contextmanager
    def logged(self, network: str) -> Iterator[None]:
        """Write the log's first line, and its last one however the ``with`` block ends."""
        self._write(self._first_line(network))
        try:
            yield
        except KeyboardInterrupt:
            self._write(SessionEnded(at=self.seconds, reason="interrupted"))
            raise
        except TuningError as error:
            self._write(SessionEnded(at=self.seconds, reason="failed", detail=str(error)))
            raise
        self._write(SessionEnded(at=self.seconds, reason=self._reason()))

    def note(self, text: str, about: Subject = "other") -> None:
        """Tell the user a line, and log it; from any thread."""
        self._say(text)
        self._write(Note(at=self.seconds, text=text, about=about))

    def count(self, trial: Trial) -> None:
        """Take in a trial that ended."""
        measured, task = trial.measured, trial.batch.task
        self._current = self._tasks.index(task)
        self.outliers += measured.outliers
        self.unsteady += not measured.steady
        failure = measured.failure
        if failure is not None:
            self.failures[failure.cause] = self.failures.get(failure.cause, 0) + 1
        self._write(
            TrialLine(
                at=self.seconds,
                task=task.name,
                seconds=measured.seconds,
                cause=None if failure is None else failure.cause,
                detail="" if failure is None else failure.detail,
                device=measured.device,
                outliers=measured.outliers,
                steady=measured.steady,
            )
        )

    def banned(self, task: Task, verdict: Verdict) -> None:
        """Take in that a schedule of a task is wrong."""
        self.wrong.append(task.name)
        self.failures[Cause.WRONG_RESULT] = self.failures.get(Cause.WRONG_RESULT, 0) + 1
        self.note(f"{task.name}: a schedule computes something wrong and is banned: {verdict}", "banned")

    def not_compared(self, task: Task, verdict: Verdict) -> None:
        """Take in that nobody knows whether the schedule of a task is right."""
        self.uncompared.append(task.name)
        self.note(f"{task.name}: {verdict}")

    def show(self, devices: tuple[DeviceProgress, ...]) -> None:
        """Log where tuning is."""
        self._write(
            TuningProgress(
                at=self.seconds,
                tasks=tuple(task.progress() for task in self._tasks),
                current=self._current,
                trials_done=self.done,
                trials_total=self._budget.trials,
                failures=dict(self.failures),
                devices=devices,
                best_ms=network_ms(self._tasks),
                seconds_left=self._seconds_left(),
                stages=self.stages.seconds(),
                peak_gflops=self.peak_gflops,
                measured_on=self._session.measured_on(self._target),
                emulated=self._session.emulated(self._target),
            )
        )

    def _write(self, line: Line) -> None:
        with self._writing:
            self._log(line)

    def _first_line(self, network: str) -> SessionStarted:
        return SessionStarted(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            network=network,
            target=self._target.name,
            measured_on=self._session.measured_on(self._target),
            emulated=self._session.emulated(self._target),
            versions={package: metadata.version(package) for package in _VERSIONED},
            trials=self._budget.trials,
            time_budget=self._budget.seconds,
            reused=self.reused,
        )

    def _reason(self) -> str:
        if self._budget.trials is not None and self.done >= self._budget.trials:
            return "trials made"
        return _SPENT if self.time_is_up else "nothing left to try"

    def _seconds_left(self) -> float | None:
        """From the speed so far, or from the clock; None as long as starting up makes up most of it."""
        by_clock = None if self._budget.seconds is None else max(0.0, self._budget.seconds - self.seconds)
        if self._budget.trials is None:
            return by_clock
        measured, left = self.done - self.reused, max(0, self._budget.trials - self.done)
        if left and measured < ROUND:
            return by_clock
        by_trials = left * self.seconds / max(1, measured)
        return by_trials if by_clock is None else min(by_clock, by_trials)


def network_ms(tasks: Sequence[Task]) -> float | None:
    """Return milliseconds of the whole network with the best schedules; None until every task has one."""
    called = [task.state for task in tasks if task.state.calls]
    if any(state.best_seconds is None for state in called):
        return None
    return 1e3 * sum(state.calls * state.best_seconds for state in called)
