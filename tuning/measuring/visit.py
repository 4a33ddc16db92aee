"""A visit to a device, in a worker process: measures a candidate, and the device's reference if that is due.

A visit never raises: what became of it is a report, which names the device even if the connection broke.
"""

import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tvm

from tuning.devices import tracker
from tuning.devices.tracker import Lease, RpcConfig
from tuning.errors import TuningError, last_line
from tuning.failures import Cause, Failure
from tuning.measuring.evaluation import Evaluation, evaluate, timer
from tuning.measuring.limits import Limits
from tuning.measuring.news import News, tell
from tuning.measuring.transfer import TransferError, seconds_for, send

_EXPLAIN_SECONDS = 25.0
_PROCESSOR = "cpu"
_CHECK_LIMITS = {"most_repeats": 6, "measure_seconds": 0.5}
_CHECK_SECONDS = 2.0
_BROKEN = re.compile(
    "RPCCode::kReturn|kShutdown|reset by peer|broken pipe|closed by peer|end of file|socket|timeout",
    re.IGNORECASE,
)
_NO_MEMORY = re.compile(
    "out of memory|cannot allocate|bad_?alloc|OUT_OF_RESOURCES|OUT_OF_HOST_MEMORY|ALLOCATION_FAILURE",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Sample:
    """A library that can be measured: its file, and its arguments as MetaSchedule's JSON describes them."""

    path: Path
    args_info: tuple[Any, ...]

    @property
    def transfer_seconds(self) -> float:
        """How long sending it may take."""
        return seconds_for(self.path.stat().st_size)


@dataclass(frozen=True)
class Check:
    """A device's reference that is to be measured again.

    Attributes
    ----------
    sample : Sample
    expected : float
        Seconds that it may take at most; it is measured twice if it takes longer. A clock
        that cannot be believed tells nothing, and counts as that.
    rest_seconds : float or None
        Set if the device is hot: it rests so long before, and measures no candidate.
    """

    sample: Sample
    expected: float
    rest_seconds: float | None = None


@dataclass(frozen=True)
class Order:
    """What a visit is to do.

    Attributes
    ----------
    job : int
        Number of the job, for the news.
    best : float or None
        Seconds of the best candidate known.
    checks : dict of str to Check
        By address, what to do if the tracker hands out this device.
    """

    config: RpcConfig
    device_type: str
    limits: Limits
    job: int
    sample: Sample
    best: float | None
    checks: dict[str, Check]
    pipe: Path

    @property
    def wait_seconds(self) -> float:
        """How long to wait for a device that is registered but in use."""
        return min(30.0, self.limits.return_seconds)

    @property
    def session_seconds(self) -> float:
        """When the device ends the session."""
        return self.limits.trial_seconds + self.sample.transfer_seconds

    @property
    def seconds(self) -> float:
        """The visit may take so long."""
        return self.wait_seconds + self.session_seconds + _EXPLAIN_SECONDS


@dataclass(frozen=True)
class Report:
    """What became of a visit.

    Attributes
    ----------
    address : str or None
        The device's, ``host:port``; None if none took the candidate.
    evaluation : Evaluation or None
        The candidate's times.
    failure : Failure or None
        Why there are none.
    suspect : bool
        Whether the failure may be the device's fault.
    check : float or None
        Seconds that the reference took.
    check_failed : bool
        Whether it could not be measured.
    took : float
        Seconds that the device was busy.
    detail : str
        Why no device took it.
    """

    address: str | None = None
    evaluation: Evaluation | None = None
    failure: Failure | None = None
    suspect: bool = False
    check: float | None = None
    check_failed: bool = False
    took: float = 0.0
    detail: str = ""

    @property
    def nobody(self) -> bool:
        """Whether there was no device to visit."""
        return self.address is None and self.failure is None


def visit(order: Order) -> Report:
    """Take a device, measure, and give it back."""
    try:
        lease = tracker.request(order.config, order.wait_seconds, order.session_seconds)
    except Exception as error:
        return Report(detail=last_line(error))
    stay = _Stay(order, lease)
    tell(order.pipe, News(order.job, address=lease.address))
    try:
        return replace(stay.report(), took=stay.seconds)
    except TransferError as error:
        failure, suspect = _not_sent(error)
    except Exception as error:
        failure, suspect = stay.judge(error)
    took = stay.seconds
    return Report(lease.address, failure=failure, suspect=suspect, took=took)


@dataclass
class _Stay:
    """A visit, while the device is ours."""

    order: Order
    lease: Lease
    arrived: float = field(default_factory=time.monotonic)
    sent: float | None = None

    @property
    def address(self) -> str:
        """The device's, ``host:port``."""
        return self.lease.address

    @property
    def seconds(self) -> float:
        """Seconds that the device has been ours."""
        return time.monotonic() - self.arrived

    def report(self) -> Report:
        """Do what is to be done on this device."""
        check = self.order.checks.get(self.address)
        if check is not None and check.rest_seconds is not None:
            time.sleep(min(check.rest_seconds, self.order.limits.trial_seconds / 2))
            return self._checked(check, None)
        evaluation = self._evaluate(self.order.sample, self.order.limits, self.order.best)
        if check is None or self._left() < _CHECK_SECONDS:
            return Report(self.address, evaluation)
        return self._checked(check, evaluation)

    def judge(self, error: Exception) -> tuple[Failure, bool]:
        """Return why it failed, and whether the device may be to blame."""
        text = last_line(error)
        if self.sent is not None and time.monotonic() - self.sent >= self.order.limits.trial_seconds:
            return _late(self.order.limits), False
        if _NO_MEMORY.search(str(error)):
            return Failure(Cause.OUT_OF_MEMORY, text), False
        if not _BROKEN.search(str(error)):
            return Failure(Cause.REFUSED, text), False
        return _explained(self.order, self.lease)

    def _left(self) -> float:
        return self.order.session_seconds - self.seconds

    def _checked(self, check: Check, evaluation: Evaluation | None) -> Report:
        """Report on the reference, too; if it cannot be measured, that is no fault of the candidate's."""
        try:
            return Report(self.address, evaluation, check=self._check(check))
        except Exception:
            return Report(self.address, evaluation, check_failed=True)

    def _check(self, check: Check) -> float:
        """Return the shortest run of the reference; a surprising one is measured twice."""
        limits = replace(self.order.limits, **_CHECK_LIMITS)
        first = self._evaluate(check.sample, limits)
        if not first.valid or min(first.seconds) <= check.expected:
            return min(first.seconds) if first.valid else check.expected
        second = self._evaluate(check.sample, limits)
        return min(first.seconds + second.seconds) if second.valid else check.expected

    def _evaluate(self, sample: Sample, limits: Limits, best: float | None = None) -> Evaluation:
        remote = self.lease.remote
        name = sample.path.name
        send(remote, sample.path, name, self.address, self._tell)
        self.sent = time.monotonic()
        try:
            library = remote.load_module(name)
            device = remote.device(self.order.device_type, 0)
            arguments = _arguments(remote, device, sample.args_info)
            if self.order.device_type != _PROCESSOR:
                _compile_by_driver(library, arguments, device)
            return evaluate(timer(library, device, arguments), limits, self._left(), best)
        finally:
            with suppress(Exception):
                remote.remove(name)

    def _tell(self, text: str) -> None:
        tell(self.order.pipe, News(self.order.job, text=text))


def _arguments(remote: Any, device: tvm.runtime.Device, args_info: tuple) -> list[tvm.runtime.Tensor]:
    """Make the arguments on the device, with the random numbers that TVM measures with."""
    fill = remote.get_function("tvm.contrib.random.random_fill_for_measure")
    tensors = [tvm.runtime.empty(tuple(shape), dtype, device) for _, dtype, shape in args_info]
    for tensor in tensors:
        fill(tensor)
    device.sync()
    return tensors


def _compile_by_driver(library: Any, arguments: list[tvm.runtime.Tensor], device: Any) -> None:
    """Run once: the driver of a GPU compiles a kernel when it first runs, which is no part of its time."""
    library[library.entry_name](*arguments)
    device.sync()


def _not_sent(error: TransferError) -> tuple[Failure, bool]:
    if error.late:
        return Failure(Cause.TIMED_OUT, str(error)), False
    if _BROKEN.search(str(error)):
        return Failure(Cause.DEVICE_GONE, str(error)), True
    return Failure(Cause.REFUSED, str(error)), False


def _explained(order: Order, lease: Lease) -> tuple[Failure, bool]:
    """Find out why a session broke, and whether the device may be to blame; its server knows how it ended.

    A crash is the code's fault, except that a kill may have come from anyone. A server that does not tell is
    another program than ours, or went away.
    """
    ending = tracker.ending_soon(lease)
    if ending is None:
        return _guessed(order.config, lease.address), True
    if ending.late:
        return _late(order.limits), False
    if ending.signal == signal.SIGILL.name:
        advice = "the device has not all instructions of the target: --target auto finds the one that it has"
        return Failure(Cause.ILLEGAL_INSTRUCTION, advice), False
    if ending.signal == signal.SIGKILL.name:
        return Failure(Cause.OUT_OF_MEMORY, "the device's system ended it by SIGKILL"), True
    if ending.signal is None and ending.code == 0:
        return Failure(Cause.DEVICE_GONE, f"the connection to {lease.address} broke"), True
    return Failure(Cause.CRASHED, str(ending)), False


def _guessed(config: RpcConfig, address: str) -> Failure:
    with suppress(TuningError):
        if address in [device.address for device in tracker.devices(config)]:
            return Failure(Cause.CRASHED, "the code crashed on the device")
    return Failure(Cause.DEVICE_GONE, f"{address} went away")


def _late(limits: Limits) -> Failure:
    return Failure(Cause.TIMED_OUT, f"took longer than {limits.trial_seconds:g} s")
