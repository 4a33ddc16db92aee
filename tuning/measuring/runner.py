"""Measures candidates on all devices that serve a key, as many at a time as there are devices.

A candidate is measured by a visit to whichever device the tracker hands out, in a worker process. This part
decides which candidate goes next, what a failed visit means, and when a device has to cool down. Devices may
leave and come back; a candidate whose session broke is measured once more, and the second time it is taken
to be at fault itself.
"""

import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self

from tuning.devices.tracker import RpcConfig
from tuning.errors import TuningError
from tuning.failures import Cause, Failure
from tuning.measuring.limits import Limits
from tuning.measuring.measured import Measured
from tuning.measuring.news import News, NewsDesk
from tuning.measuring.roster import Roster
from tuning.measuring.throttling import Finding, Pace
from tuning.measuring.visit import Order, Report, Sample, visit
from tuning.measuring.watch import Watch
from tuning.progress import DeviceProgress
from tuning.worker import Call, Outcome
from tuning.workers import WorkerPool

_TRIALS_PER_WORKER = 500
_ATTEMPTS = 2


@dataclass
class _Job:
    """A candidate that waits or is being measured.

    ``since`` is when it came, ``address`` the device that measures it, ``broke`` how often that went wrong
    by what may be the device's fault.
    """

    number: int
    sample: Sample
    best: float | None
    future: "Future[Measured]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)
    address: str | None = None
    broke: int = 0

    def gave(self, measured: Measured) -> None:
        with suppress(InvalidStateError):
            self.future.set_result(measured)

    def failed(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)


class Runner:
    """Measures candidates on a pool of devices; ``close`` ends it.

    Parameters
    ----------
    config : RpcConfig
        The tracker and the key of the devices.
    device_type : str
        TVM's name of the device the code runs on.
    limits : Limits
        Bounds of a candidate's measurement.
    say : callable
        Called with a line for the user, from threads of this object: a device that left or came back, one
        that is throttling, the progress of a large transfer.
    pace : Pace
        When devices are looked after, and how patiently.
    """

    def __init__(
        self,
        config: RpcConfig,
        device_type: str = "cpu",
        limits: Limits = Limits(),  # noqa: B008
        say: Callable[[str], None] = lambda line: None,
        pace: Pace = Pace(),  # noqa: B008
    ) -> None:
        self._config = config
        self._device_type = device_type
        self._limits = limits
        self._say = say
        self._folder = Path(tempfile.mkdtemp(prefix="deeprebirth-run-"))
        self._roster = Roster(self._folder, pace)
        self._lock = threading.RLock()
        self._numbers = count()
        self._waiting: deque[_Job] = deque()
        self._flying: dict[int, _Job] = {}
        self._closed = False
        self._served = time.monotonic()
        self._pool = WorkerPool(0, recycle_after=_TRIALS_PER_WORKER)
        self._desk = NewsDesk(self._hear)
        self._watch = Watch(config, self._look)

    @property
    def slots(self) -> int:
        """Devices that are there now, each of which measures one candidate at a time."""
        with self._lock:
            return self._roster.count

    def devices(self) -> tuple[DeviceProgress, ...]:
        """Return every device seen so far and what it does."""
        with self._lock:
            return self._roster.progress({job.address for job in self._flying.values() if job.address})

    def submit(
        self, path: Path | str, args_info: Sequence[Any], best: float | None = None
    ) -> "Future[Measured]":
        """Put a candidate in the queue.

        Parameters
        ----------
        path : Path
            Its shared library; it must stay until the future is done.
        args_info : sequence of tvm.s_tir.meta_schedule.arg_info.ArgInfo
            Its arguments.
        best : float, optional
            Seconds of the best candidate known; one that is far slower is not measured with all care.

        Returns
        -------
        Future of Measured
            Holds a ``TuningError`` if no device is there for too long.
        """
        described = tuple(info.as_json() for info in args_info)
        job = _Job(next(self._numbers), Sample(Path(path), described), best)
        with self._lock:
            if self._closed:
                job.future.cancel()
            else:
                self._waiting.append(job)
        self._dispatch()
        return job.future

    def close(self) -> None:
        """End the workers; candidates that were not measured are cancelled."""
        with self._lock:
            self._closed = True
            jobs = [*self._waiting, *self._flying.values()]
            self._waiting.clear()
        self._watch.close()
        self._pool.close()
        self._desk.close()
        for job in jobs:
            if not job.future.cancel():
                job.failed(CancelledError())
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _dispatch(self) -> None:
        """Send waiting candidates to devices, as long as there are more devices than visits."""
        with self._lock:
            started = []
            while self._waiting and len(self._flying) < self._roster.count:
                job = self._waiting.popleft()
                if job.future.running() or job.future.set_running_or_notify_cancel():
                    self._flying[job.number] = job
                    started.append((job, self._pool.submit(self._call(job))))
        for job, outcome in started:
            outcome.add_done_callback(partial(self._landed, job))

    def _call(self, job: _Job) -> Call:
        order = Order(
            config=self._config,
            device_type=self._device_type,
            limits=self._limits,
            job=job.number,
            sample=job.sample,
            best=job.best,
            checks=self._roster.checks(),
            pipe=self._desk.pipe,
        )
        return Call(visit, (order,), order.seconds)

    def _landed(self, job: _Job, outcome: "Future[Outcome]") -> None:
        """A visit is over: its candidate is done, or goes to the head of the queue again."""
        lines: list[str] = []
        try:
            with self._lock:
                self._flying.pop(job.number, None)
                report = self._report(job, outcome.result())
                measured = self._judge(job, report, lines)
                if measured is not None:
                    self._roster.measured(measured, job.sample)
                elif not self._closed:
                    self._waiting.appendleft(job)
        except BaseException as error:
            job.failed(error)
        else:
            if measured is not None:
                job.gave(measured)
        for line in lines:
            self._say(line)
        self._dispatch()

    def _report(self, job: _Job, outcome: Outcome) -> Report:
        """Return the visit's report, or one in its place if the worker process did not live to give it."""
        address, job.address = job.address, None
        if outcome.cause is None:
            return outcome.value
        if address is None and outcome.late:
            return Report(detail=outcome.cause)
        failure = Failure(Cause.CRASHED, f"the process that measured it: {outcome.cause}")
        if outcome.late:
            failure = Failure(Cause.DEVICE_GONE, f"{address} did not answer for {outcome.seconds:.0f} s")
        return Report(address, failure=failure, suspect=True, took=outcome.seconds)

    def _judge(self, job: _Job, report: Report, lines: list[str]) -> Measured | None:
        """Return what the candidate gets; None if it has to be measured again.

        Raises
        ------
        TuningError
            If no device took it for too long.
        """
        if report.nobody:
            if self._waited_too_long(job):
                raise TuningError(self._nobody(report.detail))
            return None
        self._served = time.monotonic()
        if report.check_failed:
            self._roster.check_failed(report.address)
        if report.check is not None:
            finding, line = self._roster.checked(report.address, report.check)
            if line is not None:
                lines.append(line)
            if finding is Finding.THROTTLING:
                return None
        if report.failure is not None and report.suspect:
            job.broke += 1
            if job.broke < _ATTEMPTS:
                return None
        return _measured(report)

    def _look(self, addresses: list[str], trouble: str) -> None:
        """Take in which devices the tracker knows; without any for too long, candidates fail."""
        with self._lock:
            lines = self._roster.seen(addresses)
            self._pool.resize(max(self._pool.size, self._roster.count))
            idle = not self._roster.count and not self._flying
            late = [job for job in self._waiting if idle and self._waited_too_long(job)]
            for job in late:
                self._waiting.remove(job)
        for job in late:
            job.failed(TuningError(self._nobody(trouble)))
        for line in lines:
            self._say(line)
        self._dispatch()

    def _waited_too_long(self, job: _Job) -> bool:
        return time.monotonic() - max(job.since, self._served) >= self._limits.return_seconds

    def _nobody(self, why: str) -> str:
        return f"no device measured anything for {self._limits.return_seconds:g} s: {why}"

    def _hear(self, news: News) -> None:
        with self._lock:
            job = self._flying.get(news.job)
            if news.address is not None and job is not None:
                job.address = news.address
        if news.text is not None:
            self._say(news.text)


def _measured(report: Report) -> Measured | None:
    """Return what a report says of the candidate; None if it does not speak of it."""
    if report.failure is not None:
        return Measured(failure=report.failure, device=report.address, took=report.took)
    evaluation = report.evaluation
    if evaluation is None:
        return None
    if not evaluation.valid:
        detail = f"the device's clock says {evaluation.seconds[0]:g} s"
        return Measured(failure=Failure(Cause.NO_TIME, detail), device=report.address, took=report.took)
    return Measured(
        evaluation.seconds,
        device=report.address,
        outliers=evaluation.outliers,
        steady=evaluation.steady,
        took=report.took,
    )
