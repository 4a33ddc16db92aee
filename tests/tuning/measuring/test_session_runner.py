"""The runner for one device: times from the device, and the causes of failures in words."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tvm
from tvm.s_tir.meta_schedule.arg_info import TensorInfo
from tvm.s_tir.meta_schedule.runner import RunnerInput
from tvm.script import tirx as T

import targets
import tuning
from tuning.measuring.session_runner import SessionRunner

Measurable = Callable[[tvm.tirx.PrimFunc], RunnerInput]


@T.prim_func(s_tir=True)
def doubling(values: T.Buffer((64,), "float32"), doubled: T.Buffer((64,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(64):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(64, i)
            doubled[v_i] = values[v_i] * T.float32(2)


@T.prim_func(s_tir=True)
def crashing(values: T.Buffer((64,), "float32"), doubled: T.Buffer((64,), "float32")):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "abort"))


@T.prim_func(s_tir=True)
def hanging(values: T.Buffer((64,), "float32"), doubled: T.Buffer((64,), "float32")):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "sleep", 600))


@pytest.fixture
def measurable(tmp_path: Path, host: targets.TargetInfo) -> Measurable:
    def build(function: tvm.tirx.PrimFunc) -> RunnerInput:
        path = tmp_path / "candidate.so"
        tvm.tirx.build(tvm.IRModule({"main": function}), target=host.target()).export_library(str(path))
        return RunnerInput(str(path), "cpu", [TensorInfo("float32", (64,)), TensorInfo("float32", (64,))])

    return build


@pytest.fixture
def runner(session: tuning.LocalSession) -> Iterator[SessionRunner]:
    with_short_trials = SessionRunner(session.rpc_config, trial_seconds=3)
    yield with_short_trials
    with_short_trials.close()


def test_times_are_seconds_of_one_call(runner: SessionRunner, measurable: Measurable) -> None:
    result = runner.measure(measurable(doubling))
    assert result.error_msg is None
    assert all(0 < float(seconds) < 1e-3 for seconds in result.run_secs)


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (crashing, "run failed: the code crashed on the device"),
        (hanging, "run failed: took longer than 3 s"),
    ],
)
def test_a_failure_is_told_and_the_device_is_there_for_the_next(
    runner: SessionRunner, measurable: Measurable, function: tvm.tirx.PrimFunc, cause: str
) -> None:
    failed = runner.measure(measurable(function))
    assert failed.run_secs is None
    assert str(failed.error_msg) == cause
    assert runner.measure(measurable(doubling)).error_msg is None


def test_a_device_that_is_gone_ends_tuning_with_its_keys(
    session: tuning.LocalSession, measurable: Measurable
) -> None:
    config = tuning.RpcConfig(session.rpc_config.host, session.rpc_config.port, "gone")
    gone = SessionRunner(config, return_seconds=0.5)
    with pytest.raises(tuning.TuningError, match=r"no device serves the key 'gone'.*: local$"):
        gone.measure(measurable(doubling))
    gone.close()
