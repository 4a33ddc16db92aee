"""Measures what a device's arithmetic can reach at most, in billions of float32 operations a second.

The kernel multiplies and adds in vector registers and reads nothing else: on every thread a few vectors, each
of which waits only for itself,

    x_c <- x_c + a b,   c = 1 .. C,

often enough to take some time. A fused multiply-add has two operations for each of the vector's elements. C
covers the time until a result can be used times the units that work at once (4 x 2 on today's processors),
and the vectors with a and b fit into 16 registers.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tvm
from tvm.script import tirx as T
from tvm.target.codegen import llvm_get_vector_width

from targets import TargetError, TargetInfo
from tuning.devices import tracker
from tuning.devices.session import Session
from tuning.devices.tracker import RpcConfig
from tuning.errors import TuningError
from tuning.measuring.evaluation import evaluate, timer
from tuning.measuring.limits import Limits
from tuning.workers import call

_CHAINS = 12
_ROUNDS = 400_000
_LIMITS = Limits(most_repeats=24)
_SECONDS = 60.0
_FLOAT_BITS = 32
_NAME = "peak.so"


def peak_gflops(
    session: Session, target: TargetInfo, say: Callable[[str], None] = lambda line: None
) -> float | None:
    """Measure a device's greatest rate of float32 arithmetic on as many threads as the target has.

    Parameters
    ----------
    session : Session
        The device, entered.
    target : TargetInfo
        What code for it is built for.
    say : callable
        Is told in a line why there is none.

    Returns
    -------
    float or None
        Billions of operations a second, a multiply-add counted as two; None if it cannot be measured.
    """
    if target.device_type != "cpu":
        say(f"no peak rate: it is measured on processors only, not on {target.device_type}")
        return None
    try:
        compiler = target.require_compiler()
        tracker.require_device(session.rpc_config)
    except (TargetError, TuningError) as error:
        say(f"no peak rate: {error}")
        return None
    arguments = (session.rpc_config, target.target(), target.threads, compiler)
    outcome = call(measure_peak, *arguments, seconds=2 * _SECONDS)
    if outcome.cause is not None:
        say(f"no peak rate: {outcome.cause}")
    return outcome.value


def measure_peak(config: RpcConfig, target: tvm.target.Target, threads: int, compiler: str) -> float:
    """Build the kernel and measure it, in this process."""
    lanes = max(1, int(llvm_get_vector_width(target)) // _FLOAT_BITS)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-peak-") as folder:
        path = Path(folder) / _NAME
        built = tvm.tirx.build(peak_kernel(threads, lanes), target=target)
        built.export_library(str(path), cc=compiler)
        remote = tracker.request(config, _SECONDS / 2, _SECONDS).remote
        remote.upload(str(path), _NAME)
        library, device = remote.load_module(_NAME), remote.cpu()
        values = tvm.runtime.tensor(np.ones(threads * _CHAINS * lanes, "float32"), device)
        factors = tvm.runtime.tensor(np.array([0.5, 0.001], "float32"), device)
        evaluation = evaluate(timer(library, device, [values, factors]), _LIMITS, _SECONDS / 2)
    if not evaluation.valid:
        raise TuningError(f"the device's clock says {evaluation.seconds[0]:g} s")
    return 2e-9 * threads * _CHAINS * lanes * _ROUNDS / min(evaluation.seconds)


def peak_kernel(threads: int, lanes: int) -> tvm.IRModule:
    """Return the kernel: its first argument holds the vectors, its second ``a`` and ``b``."""
    size = _CHAINS * lanes

    @T.prim_func(s_tir=True)
    def multiply_and_add(values: T.Buffer((threads * size,), "float32"), factors: T.Buffer((2,), "float32")):
        T.func_attr({"global_symbol": "main", "tirx.noalias": True})
        for thread in T.parallel(threads):
            vectors = T.alloc_buffer((size,), "float32", scope="local")
            for i in T.vectorized(size):
                vectors[i] = values[thread * size + i]
            for _ in range(_ROUNDS):
                for chain in T.unroll(_CHAINS):
                    for lane in T.vectorized(lanes):
                        vectors[chain * lanes + lane] = T.fma(
                            factors[0], factors[1], vectors[chain * lanes + lane]
                        )
            for i in T.vectorized(size):
                values[thread * size + i] = vectors[i]

    return tvm.IRModule({"main": multiply_and_add})
