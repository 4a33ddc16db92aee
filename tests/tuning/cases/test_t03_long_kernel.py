"""T3: a kernel longer than its session: told as that, not as a connection that was reset (PR 15187)."""

from pathlib import Path

import pytest
import tvm
from tvm.s_tir.meta_schedule.arg_info import TensorInfo
from tvm.script import tirx as T

import targets
import tuning
from tuning.devices import tracker
from tuning.failures import Cause
from tuning.measuring.limits import Limits
from tuning.measuring.runner import Runner


@T.prim_func(s_tir=True)
def endless(values: T.Buffer((64,), "float32")):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "sleep", 600))


@pytest.fixture
def candidate(tmp_path: Path, host: targets.TargetInfo) -> Path:
    path = tmp_path / "endless.so"
    tvm.tirx.build(tvm.IRModule({"main": endless}), target=host.target()).export_library(str(path))
    return path


@pytest.mark.timeout(120)
def test_a_trial_is_told_to_take_too_long(session: tuning.LocalSession, candidate: Path) -> None:
    runner = Runner(session.rpc_config, limits=Limits(trial_seconds=2))
    try:
        measured = runner.submit(candidate, [TensorInfo("float32", (64,))]).result(100)
    finally:
        runner.close()
    assert measured.seconds == ()
    assert measured.failure.cause is Cause.TIMED_OUT
    assert "took longer than 2 s" in str(measured.failure)


@pytest.mark.timeout(120)
def test_a_session_is_told_to_take_too_long(session: tuning.LocalSession, candidate: Path) -> None:
    lease = tracker.request(session.rpc_config, 60, 2)
    lease.remote.upload(str(candidate))
    library = lease.remote.load_module(candidate.name)
    argument = tvm.runtime.empty((64,), "float32", lease.remote.cpu(0))
    with pytest.raises(RuntimeError, match=r"RPCSessionTimeoutError: the session took longer than its 2 s"):
        library["main"](argument)
    assert tracker.ending(lease).late
