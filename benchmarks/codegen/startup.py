"""How long it takes to hand work to the threads and to wait for them."""

import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import tvm
from tvm.script import tirx as T

from targets import TargetInfo
from tuning.devices import tracker
from tuning.devices.session import Session

_NAME = "startup.so"
_SECONDS = 60.0
_NUMBER, _REPEATS = 2000, 9


def thread_startup(session: Session, target: TargetInfo) -> float:
    """Return by how many microseconds a parallel loop of a store for each thread is slower than a serial one.

    Parameters
    ----------
    session : Session
        The device, entered; it is not free again before this process ends.
    target : TargetInfo
        What code for it is built for.
    """
    with tempfile.TemporaryDirectory(prefix="deeprebirth-startup-") as folder:
        path = Path(folder) / _NAME
        built = tvm.tirx.build(_stores(target.threads), target=target.target())
        built.export_library(str(path), cc=target.require_compiler())
        remote = tracker.request(session.rpc_config, _SECONDS / 2, _SECONDS).remote
        remote.upload(str(path), _NAME)
        library, device = remote.load_module(_NAME), remote.cpu()
        values = tvm.runtime.tensor(np.zeros(target.threads, "float32"), device)
        timers = [
            library.time_evaluator(name, device, number=_NUMBER, repeat=_REPEATS)
            for name in ("parallel", "serial")
        ]
        parallel, serial = (median(timer(values).results) for timer in timers)
    return 1e6 * (parallel - serial)


def _stores(threads: int) -> tvm.IRModule:
    @T.prim_func(s_tir=True)
    def parallel(values: T.Buffer((threads,), "float32")):
        T.func_attr({"global_symbol": "parallel", "tirx.noalias": True})
        for thread in T.parallel(threads):
            values[thread] = T.float32(1)

    @T.prim_func(s_tir=True)
    def serial(values: T.Buffer((threads,), "float32")):
        T.func_attr({"global_symbol": "serial", "tirx.noalias": True})
        for thread in range(threads):
            values[thread] = T.float32(1)

    return tvm.IRModule({"parallel": parallel, "serial": serial})
