"""Runs a kernel on a device, on random input, and brings back what it wrote: the work of a worker process."""

import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tuning.devices import tracker
from tuning.devices.tracker import Lease, RpcConfig
from tuning.measuring.transfer import seconds_for

WAIT_SECONDS = 30.0
_SMALL_INTEGERS = {"bool": (0, 1), "int8": (-8, 7), "uint8": (0, 15)}
_INDICES = (0, 1)

Arguments = tuple[tuple[str, tuple[int, ...]], ...]
"""Type and shape of each argument."""


class Numbers(StrEnum):
    """The real numbers that a kernel is run on; integers are small, and not negative where these are not."""

    REAL = "in [-1, 1]"
    POSITIVE = "in (0, 1]"
    WHOLE = "-1, 0 and 1"


@dataclass(frozen=True)
class Signature:
    """What a kernel takes, and what decides how exact it is.

    Attributes
    ----------
    arguments : tuple of (str, tuple of int)
        Type and shape of each argument.
    outputs : tuple of int
        Positions of the arguments that it writes.
    terms : int
        How many numbers are summed up on the longest way to an output.
    unit_roundoff : float
        Of the least exact floating-point type in it; 0 if there is none.
    """

    arguments: Arguments
    outputs: tuple[int, ...]
    terms: int
    unit_roundoff: float


@dataclass(frozen=True)
class Job:
    """What is run, and where.

    Attributes
    ----------
    config : RpcConfig
        The tracker and the key of the device.
    device_type : str
        TVM's name of the device that the library's function runs on.
    seconds : float
        The kernel may take so long.
    library : Path
        Shared library with a function ``main``.
    signature : Signature
    seed : int
        Seed of the input.
    numbers : Numbers
        The input.
    fills : tuple of int
        The kernel runs once for each, its outputs filled with huge numbers of this sign before.
    """

    config: RpcConfig
    device_type: str
    seconds: float
    library: Path
    signature: Signature
    seed: int
    numbers: Numbers
    fills: tuple[int, ...]

    @property
    def session_seconds(self) -> float:
        """When the device ends the session: the kernel's time, and that of sending library and arguments."""
        arguments = sum(np.dtype(dtype).itemsize * prod(shape) for dtype, shape in self.signature.arguments)
        return self.seconds + seconds_for(self.library.stat().st_size + 2 * arguments)


@dataclass(frozen=True)
class Broken:
    """The connection broke while the kernel ran.

    Attributes
    ----------
    late : bool
        Whether its time was over.
    crash : str or None
        How the kernel ended the device's process; None if the device's server does not tell.
    """

    late: bool
    crash: str | None = None


def run_kernel(job: Job) -> list[list[np.ndarray]] | Broken:
    """Return the outputs for each of the job's fills.

    Raises
    ------
    Exception
        If it is not the kernel's fault that it did not run or end.
    """
    lease = tracker.request(job.config, WAIT_SECONDS, job.session_seconds)
    remote, name = lease.remote, job.library.name
    device = remote.device(job.device_type, 0)
    try:
        remote.upload(str(job.library), name)
        kernel = remote.load_module(name)["main"]
        values = random_arguments(job.signature.arguments, job.seed, job.numbers)
        arguments = [tvm.runtime.tensor(value, device) for value in values]
        outputs = []
        for sign in job.fills:
            _fill(arguments, job.signature, sign)
            broken = _call(kernel, arguments, device, lease, job.seconds)
            if broken is not None:
                return broken
            outputs.append([arguments[place].numpy() for place in job.signature.outputs])
        return outputs
    finally:
        with suppress(Exception):
            remote.remove(name)


def arguments_of(function: tvm.tirx.PrimFunc) -> Arguments:
    """Return type and shape of each argument of a function."""
    return tuple((str(each.dtype), tuple(int(size) for size in each.shape)) for each in function.params)


def random_arguments(wanted: Arguments, seed: int, numbers: Numbers) -> list[np.ndarray]:
    """Return arguments with random numbers: these real ones, and small integers that may be indices."""
    generator = np.random.default_rng(seed)
    return [_random(generator, dtype, shape, numbers) for dtype, shape in wanted]


def _call(
    kernel: Any, arguments: list[Any], device: tvm.runtime.Device, lease: Lease, seconds: float
) -> Broken | None:
    """Call the kernel; an error is raised again unless the kernel is to blame.

    A signal that ended the device's process is its fault, except for one that anyone may have sent.
    """
    started = time.monotonic()
    try:
        kernel(*arguments)
        device.sync()
    except Exception:
        if time.monotonic() - started >= seconds:
            return Broken(late=True)
        ending = tracker.ending_soon(lease)
        if ending is None or ending.late:
            return Broken(late=ending is not None)
        if ending.signal is None or ending.signal == signal.SIGKILL.name:
            raise
        return Broken(late=False, crash=str(ending))
    return None


def _fill(arguments: list[Any], signature: Signature, sign: int) -> None:
    """Fill the outputs with half of their types' largest or smallest numbers."""
    for place in signature.outputs:
        dtype, shape = signature.arguments[place]
        arguments[place].copyfrom(np.full(shape, _huge(dtype, sign), dtype))


def _huge(dtype: str, sign: int) -> float | bool:
    if dtype == "bool":
        return sign > 0
    limits = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    return (limits.max if sign > 0 else limits.min) // 2


def _random(
    generator: np.random.Generator, dtype: str, shape: tuple[int, ...], numbers: Numbers
) -> np.ndarray:
    positive = numbers is Numbers.POSITIVE
    if dtype.startswith("float"):
        if numbers is Numbers.WHOLE:
            return generator.integers(-1, 1, shape, endpoint=True).astype(dtype)
        return (1 - generator.random(shape) * (1 if positive else 2)).astype(dtype)
    low, high = _SMALL_INTEGERS.get(dtype, _INDICES)
    return generator.integers(0 if positive else low, high, shape, endpoint=True).astype(dtype)
