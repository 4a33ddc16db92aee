"""Compares a tuned kernel with the untuned one on a device: the same random input, the outputs side by side.

Both sum the same numbers, in another order. A sum of n terms, of random signs, made in floating point with
the unit roundoff u is off by a small multiple of sqrt(n) u of its size, with a probability close to one
(Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019);
the bound that always holds, n u, lets errors pass that are none of rounding. So with the n of the longest way
through a kernel (its reductions one after the other, and a few operations more) the largest difference may be

    16 u sqrt(n + 16)    of the untuned output's largest magnitude, and at most a twentieth of it.

Random sums of 4,608 products in float32 differ by a twentieth of that, and one of which an average product
is missing by fifty times as much. Integers have to be equal.

An element that a kernel never writes keeps what was there, so the tuned one runs twice, on output arguments
that were filled with huge numbers, positive first, then negative.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tvm
from tvm.s_tir.meta_schedule.runner import rpc_runner

from tuning.devices import tracker
from tuning.devices.tracker import RpcConfig
from tuning.records.verdicts import Judgement, Verdict
from tuning.worker import Call, Outcome
from tuning.workers import WorkerPool

RUN_SECONDS = 60.0
RETURN_SECONDS = 60.0
_WAIT_SECONDS = 30.0
_TRANSFER_SECONDS = 60.0
_FACTOR = 16
_OTHER_OPERATIONS = 16
_MOST = 0.05
_SMALL_INTEGERS = {"bool": (0, 1), "int8": (-8, 7), "uint8": (0, 15)}
_INDICES = (0, 1)


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

    arguments: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[int, ...]
    terms: int
    unit_roundoff: float

    @property
    def tolerance(self) -> float:
        """The difference allowed, relative to the largest magnitude of an output."""
        return min(_MOST, _FACTOR * self.unit_roundoff * math.sqrt(self.terms + _OTHER_OPERATIONS))


@dataclass(frozen=True)
class Reference:
    """What the untuned kernel gave.

    Attributes
    ----------
    signature : Signature
    seed : int
        Seed of its input.
    positive : bool
        Whether its input had no negative numbers.
    outputs : tuple of numpy.ndarray
    """

    signature: Signature
    seed: int
    positive: bool
    outputs: tuple[np.ndarray, ...]


class Comparer:
    """Runs kernels on a device, each in a session of its own; ``close`` ends its worker process.

    Parameters
    ----------
    config : RpcConfig
        The tracker and the key of the device.
    device_type : str
        TVM's name of the device.
    seconds : float
        The device ends a kernel that takes longer.
    return_seconds : float
        How long to wait for a device that went away.
    """

    def __init__(
        self,
        config: RpcConfig,
        device_type: str = "cpu",
        seconds: float = RUN_SECONDS,
        return_seconds: float = RETURN_SECONDS,
    ) -> None:
        self._config = config
        self._device_type = device_type
        self._seconds = seconds
        self._return_seconds = return_seconds
        self._pool = WorkerPool(size=1)

    def reference(self, library: Path, signature: Signature, seed: int = 0) -> Reference | Verdict:
        """Run the untuned kernel; the verdict says why there is nothing to compare with.

        Its input is random in [-1, 1]. If the output is not finite then (a root, a logarithm), it is in
        (0, 1] instead.

        Raises
        ------
        TuningError
            If the device is gone for good.
        """
        for positive in (False, True):
            outcome = self._run(library, signature, seed, positive, fills=(1,))
            if outcome.cause is not None:
                return Verdict(Judgement.NOT_COMPARED, detail=f"the untuned function: {self._words(outcome)}")
            reference = Reference(signature, seed, positive, tuple(outcome.value[0]))
            if all(np.isfinite(each).all() for each in reference.outputs):
                break
        return reference

    def compare(self, library: Path, reference: Reference) -> Verdict:
        """Run a tuned kernel on the same input and compare its outputs.

        One that breaks the connection twice, while the untuned kernel did not, is wrong.

        Raises
        ------
        TuningError
            If the device is gone for good.
        """
        given = reference.signature, reference.seed, reference.positive
        outcome = self._run(library, *given, fills=(1, -1))
        if outcome.cause is None:
            verdicts = [judge(outputs, reference) for outputs in outcome.value]
            return max(verdicts, key=lambda each: each.judgement is Judgement.WRONG)
        crashed = not outcome.late and outcome.seconds < self._seconds
        judgement = Judgement.WRONG if crashed else Judgement.NOT_COMPARED
        return Verdict(judgement, detail=f"the tuned function: {self._words(outcome)}")

    def close(self) -> None:
        """End the worker process."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(
        self, library: Path, signature: Signature, seed: int, positive: bool, fills: tuple[int, ...]
    ) -> Outcome:
        """Run a kernel; once more if that broke down before its time was up."""
        outcome = self._attempt(library, signature, seed, positive, fills)
        if outcome.cause is not None and outcome.seconds < self._seconds:
            outcome = self._attempt(library, signature, seed, positive, fills)
        return outcome

    def _attempt(self, *what: Any) -> Outcome:
        arguments = (self._config, self._device_type, self._seconds, *what)
        bound = self._seconds + _WAIT_SECONDS + _TRANSFER_SECONDS
        outcome = self._pool.run([Call(run_kernel, arguments, bound)])[0]
        if outcome.cause is not None:
            tracker.wait_for_device(self._config, self._return_seconds)
        return outcome

    def _words(self, outcome: Outcome) -> str:
        late = outcome.late or outcome.seconds >= self._seconds
        return f"took longer than {self._seconds:g} s" if late else f"did not run ({outcome.cause})"


def compare(
    config: RpcConfig,
    tuned: Path,
    untuned: Path,
    signature: Signature,
    device_type: str = "cpu",
    seed: int = 0,
    seconds: float = RUN_SECONDS,
) -> Verdict:
    """Compare two libraries of the same signature on a device.

    Parameters
    ----------
    config : RpcConfig
        The tracker and the key of the device.
    tuned, untuned : Path
        Shared libraries with a function ``main``.
    signature : Signature
        Of both.
    device_type : str
        TVM's name of the device.
    seed : int
        Seed of the input.
    seconds : float
        The device ends a kernel that takes longer.

    Raises
    ------
    TuningError
        If the device is gone for good.
    """
    with Comparer(config, device_type, seconds) as comparer:
        reference = comparer.reference(untuned, signature, seed)
        return reference if isinstance(reference, Verdict) else comparer.compare(tuned, reference)


def judge(outputs: list[np.ndarray], reference: Reference) -> Verdict:
    """Compare outputs with those of the untuned kernel.

    What is not finite has to be the same in both: not a number, or the same infinity.
    """
    tolerance = reference.signature.tolerance
    difference = 0.0
    for given, expected in zip(outputs, reference.outputs, strict=True):
        finite = np.isfinite(expected)
        if not np.array_equal(given[~finite], expected[~finite], equal_nan=True):
            return Verdict(Judgement.WRONG, None, tolerance, "finite where the untuned function is not")
        if not np.isfinite(given[finite]).all():
            return Verdict(Judgement.WRONG, None, tolerance, "not finite where the untuned function is")
        if not finite.any():
            return Verdict(Judgement.NOT_COMPARED, detail="the untuned function gives no finite number")
        difference = max(difference, _difference(given[finite], expected[finite]))
    right = difference <= (tolerance if reference.signature.unit_roundoff else 0)
    return Verdict(Judgement.RIGHT if right else Judgement.WRONG, difference, tolerance)


def random_arguments(signature: Signature, seed: int, positive: bool) -> list[np.ndarray]:
    """Return arguments with random numbers: in [-1, 1] or (0, 1], and small integers that may be indices."""
    generator = np.random.default_rng(seed)
    return [_random(generator, dtype, shape, positive) for dtype, shape in signature.arguments]


def run_kernel(
    config: RpcConfig,
    device_type: str,
    seconds: float,
    library: Path,
    signature: Signature,
    seed: int,
    positive: bool,
    fills: tuple[int, ...],
) -> list[list[np.ndarray]]:
    """Run a kernel once for each sign in ``fills`` that its outputs are filled with before; return these."""
    remote = tracker.request(config, _WAIT_SECONDS, seconds).remote
    device = remote.device(device_type, 0)
    try:
        kernel = rpc_runner.default_upload_module(remote, str(library), library.name)["main"]
        values = random_arguments(signature, seed, positive)
        arguments = [tvm.runtime.tensor(value, device) for value in values]
        return [_outputs(kernel, device, arguments, signature, sign) for sign in fills]
    finally:
        rpc_runner.default_cleanup(remote, library.name)


def _outputs(
    kernel: Any, device: tvm.runtime.Device, arguments: list[Any], signature: Signature, sign: int
) -> list[np.ndarray]:
    for place in signature.outputs:
        arguments[place].copyfrom(_filled(*signature.arguments[place], sign))
    kernel(*arguments)
    device.sync()
    return [arguments[place].numpy() for place in signature.outputs]


def _filled(dtype: str, shape: tuple[int, ...], sign: int) -> np.ndarray:
    """Return half of the type's largest number, or of its smallest, everywhere."""
    if dtype == "bool":
        return np.full(shape, sign > 0)
    limits = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    return np.full(shape, (limits.max if sign > 0 else limits.min) / 2, dtype)


def _random(generator: np.random.Generator, dtype: str, shape: tuple[int, ...], positive: bool) -> np.ndarray:
    if dtype.startswith("float"):
        return (1 - generator.random(shape) * (1 if positive else 2)).astype(dtype)
    low, high = _SMALL_INTEGERS.get(dtype, _INDICES)
    return generator.integers(0 if positive else low, high, shape, endpoint=True).astype(dtype)


def _difference(given: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference, relative to the largest magnitude that is expected."""
    largest = float(np.abs(expected.astype("float64")).max())
    return float(np.abs(given.astype("float64") - expected.astype("float64")).max()) / (largest or 1.0)
