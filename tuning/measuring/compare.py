"""Compares a tuned kernel with the untuned one on a device: the same random input, the outputs side by side.

The untuned kernel runs on the device's processor, the tuned one on what it was tuned for: so each kernel for
a GPU is held to what the processor beside it computes.

Both sum the same numbers, in another order. A sum of n terms, of random signs, made in floating point with
the unit roundoff u is off by a small multiple of sqrt(n) u of its size, with a probability close to one
(Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019);
the bound that always holds, n u, lets errors pass that are none of rounding. So with the n of the longest way
through a kernel (its reductions one after the other, and a few operations more) the largest difference may be

    16 u sqrt(n + 16)    of the untuned output's largest magnitude, and at most a tenth of it.

Random sums of 4,608 products in float32 differ by a twentieth of that, and one of which an average product
is missing by fifty times as much. Integers have to be equal.

In float16 that bound would let a missing product pass. There the input is -1, 0 and 1: products are, too, and
sums of them are integers, which float16 holds exactly up to 2048. A random sum of n such products stays below
4 sqrt(n) or so, far from that, and is the same in any order. What else a kernel does, a division or a root,
rounds a few times: the largest difference may be

    4 u    of the untuned output's largest magnitude,

which is less than the 1 that a missing product makes, as long as that magnitude is below 512.

An element that a kernel never writes keeps what was there, so the tuned one runs twice, on output arguments
that were filled with huge numbers, positive first, then negative.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tuning.devices import tracker
from tuning.devices.tracker import RpcConfig
from tuning.measuring.kernel import WAIT_SECONDS, Broken, Job, Numbers, Signature, run_kernel
from tuning.records.verdicts import Judgement, Verdict
from tuning.worker import Call
from tuning.workers import WorkerPool

RUN_SECONDS = 60.0
RETURN_SECONDS = 60.0
_ATTEMPTS = 3
_EXPLAIN_SECONDS = 25.0
_FACTOR = 16
_OTHER_OPERATIONS = 16
_MOST = 0.1
_HOST = "cpu"
_FEW_ROUNDINGS = 4
_HALF_ROUNDOFF = 2.0**-11

Outputs = list[list[np.ndarray]]


@dataclass(frozen=True)
class Reference:
    """What the untuned kernel gave.

    Attributes
    ----------
    signature : Signature
    seed : int
        Seed of its input.
    numbers : Numbers
        Its input.
    outputs : tuple of numpy.ndarray
    """

    signature: Signature
    seed: int
    numbers: Numbers
    outputs: tuple[np.ndarray, ...]


class Comparer:
    """Runs kernels on devices, each in a session of its own; ``close`` ends its worker processes.

    Several threads may use it.

    Parameters
    ----------
    config : RpcConfig
        The tracker and the key of the device.
    device_type : str
        TVM's name of the device that tuned kernels run on.
    seconds : float
        The device ends a kernel that takes longer.
    return_seconds : float
        How long to wait for a device that went away.
    at_once : int
        How many kernels run at the same time: the number of devices that serve the key.
    """

    def __init__(
        self,
        config: RpcConfig,
        device_type: str = "cpu",
        seconds: float = RUN_SECONDS,
        return_seconds: float = RETURN_SECONDS,
        at_once: int = 1,
    ) -> None:
        self._config = config
        self._device_type = device_type
        self._seconds = seconds
        self._return_seconds = return_seconds
        self._pool = WorkerPool(size=at_once)

    def reference(self, library: Path, signature: Signature, seed: int = 0) -> Reference | Verdict:
        """Run the untuned kernel on the processor; the verdict says why there is nothing to compare with.

        Its input is random in [-1, 1], or of -1, 0 and 1 where float16 is summed up. If the output is not
        finite then (a root, a logarithm), it is in (0, 1] instead.

        Raises
        ------
        TuningError
            If the device is gone for good.
        """
        for numbers in (usual_numbers(signature), Numbers.POSITIVE):
            outputs = self._run(library, _HOST, signature, seed, numbers, fills=(1,))
            if isinstance(outputs, str):
                return Verdict(Judgement.NOT_COMPARED, detail=f"the untuned function {outputs}")
            if isinstance(outputs, Broken):
                return Verdict(Judgement.NOT_COMPARED, detail=f"the untuned function {self._words(outputs)}")
            reference = Reference(signature, seed, numbers, tuple(outputs[0]))
            if all(np.isfinite(each).all() for each in reference.outputs):
                break
        return reference

    def compare(self, library: Path, reference: Reference) -> Verdict:
        """Run a tuned kernel on the same input and compare its outputs.

        One that crashes is wrong. If the device does not tell why the connection broke, it is a crash if that
        happens each time: the untuned kernel ran.

        Raises
        ------
        TuningError
            If the device is gone for good.
        """
        given = reference.signature, reference.seed, reference.numbers
        outputs = self._run(library, self._device_type, *given, fills=(1, -1))
        if isinstance(outputs, str):
            return Verdict(Judgement.NOT_COMPARED, detail=f"the tuned function {outputs}")
        if isinstance(outputs, Broken):
            judgement = Judgement.NOT_COMPARED if outputs.late else Judgement.WRONG
            return Verdict(judgement, detail=f"the tuned function {self._words(outputs)}")
        verdicts = [judge(each, reference) for each in outputs]
        return max(verdicts, key=lambda verdict: verdict.judgement is Judgement.WRONG)

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(
        self,
        library: Path,
        device_type: str,
        signature: Signature,
        seed: int,
        numbers: Numbers,
        fills: tuple[int, ...],
    ) -> Outputs | Broken | str:
        """Run a kernel, again if something else may have broken it; a text says that it did not run."""
        job = Job(self._config, device_type, self._seconds, library, signature, seed, numbers, fills)
        for _ in range(_ATTEMPTS):
            outputs = self._attempt(job)
            if isinstance(outputs, list) or (isinstance(outputs, Broken) and (outputs.late or outputs.crash)):
                break
        return outputs

    def _attempt(self, job: Job) -> Outputs | Broken | str:
        bound = WAIT_SECONDS + job.session_seconds + _EXPLAIN_SECONDS
        outcome = self._pool.run([Call(run_kernel, (job,), bound)])[0]
        if outcome.cause is not None or isinstance(outcome.value, Broken):
            tracker.wait_for_device(self._config, self._return_seconds)
        if outcome.late:
            return Broken(late=True)
        return outcome.value if outcome.cause is None else f"did not run: {outcome.cause}"

    def _words(self, broken: Broken) -> str:
        if broken.late:
            return f"took longer than {self._seconds:g} s"
        return f"crashed on the device: {broken.crash or 'the connection broke each time'}"


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
        Shared libraries with a function ``main``; the untuned one is for the device's processor.
    signature : Signature
        Of both.
    device_type : str
        TVM's name of the device that the tuned one runs on.
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
    tolerance = allowed(reference.signature, reference.numbers)
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
    right = difference <= tolerance
    return Verdict(Judgement.RIGHT if right else Judgement.WRONG, difference, tolerance)


def usual_numbers(signature: Signature) -> Numbers:
    """Return what a kernel is run on: numbers whose sums are exact where float16 is summed up."""
    is_half = signature.unit_roundoff >= _HALF_ROUNDOFF
    return Numbers.WHOLE if is_half and signature.terms else Numbers.REAL


def allowed(signature: Signature, numbers: Numbers = Numbers.REAL) -> float:
    """Return the difference allowed, relative to the largest magnitude of an output."""
    if numbers is Numbers.WHOLE:
        return _FEW_ROUNDINGS * signature.unit_roundoff
    longest = signature.terms + _OTHER_OPERATIONS
    return min(_MOST, _FACTOR * signature.unit_roundoff * math.sqrt(longest))


def _difference(given: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference, relative to the largest magnitude that is expected."""
    largest = float(np.abs(expected.astype("float64")).max())
    return float(np.abs(given.astype("float64") - expected.astype("float64")).max()) / (largest or 1.0)
