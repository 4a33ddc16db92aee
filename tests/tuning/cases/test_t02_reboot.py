"""T2: the device reboots in mid-run: its server is killed and comes back.

apache/tvm#10240: tuning ended. Right: a trial may fail, nothing measured is lost, and tuning goes on.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tvm
from tvm.s_tir.meta_schedule.arg_info import TensorInfo
from tvm.script import tirx as T

import targets
import tuning
from tuning.failures import Cause
from tuning.measuring.runner import Runner

ARGS_INFO = [TensorInfo("float32", (64,))]


@T.prim_func(s_tir=True)
def slow(values: T.Buffer((64,), "float32")):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "usleep", 200_000))


@pytest.fixture
def candidate(tmp_path: Path, host: targets.TargetInfo) -> Path:
    path = tmp_path / "slow.so"
    tvm.tirx.build(tvm.IRModule({"main": slow}), target=host.target()).export_library(str(path))
    return path


@pytest.fixture
def rack(host: targets.TargetInfo) -> Iterator[tuning.LocalSession]:
    with tuning.LocalSession(host, key="rack") as local:
        yield local


@pytest.mark.timeout(180)
@pytest.mark.parametrize("killed", ["server", "tracker"])
def test_measuring_goes_on_when_it_is_back(rack: tuning.LocalSession, candidate: Path, killed: str) -> None:
    runner = Runner(rack.rpc_config)
    try:
        assert runner.submit(candidate, ARGS_INFO).result(60).seconds
        before = rack.process_ids
        futures = [runner.submit(candidate, ARGS_INFO) for _ in range(3)]
        while not any(device.status == "measuring" for device in runner.devices()):
            time.sleep(0.01)
        os.kill(before[("tracker", "server").index(killed)], signal.SIGKILL)
        results = [future.result(120) for future in futures]
        assert rack.process_ids != before
    finally:
        runner.close()
    assert all(result.seconds or result.failure.cause is Cause.DEVICE_GONE for result in results)
    assert all(seconds >= 0.2 for result in results for seconds in result.seconds)
    assert sum(bool(result.seconds) for result in results) >= 2
