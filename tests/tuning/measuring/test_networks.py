"""Running on the device: outputs as torch computes them, times side by side, all threads at work."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.script import tirx as T

import targets
import tuning
from tuning.devices import tracker
from tuning.measuring import networks


@pytest.fixture(scope="module")
def library(net, host: targets.TargetInfo, tmp_path_factory: pytest.TempPathFactory) -> tuning.Library:
    folder = tmp_path_factory.mktemp("bündel mit Lücken")
    library = tuning.Library(folder / "library.so", folder / "weights.params")
    tuning.compile_module(net.module, host, None).export(library.library, library.weights)
    return library


def test_outputs_are_those_of_torch(library: tuning.Library, net, session: tuning.LocalSession) -> None:
    (output,) = tuning.run_remote(session, library, [net.image(2)])
    np.testing.assert_allclose(output, net.in_torch(net.image(2)), rtol=1e-5, atol=1e-6)


def test_networks_are_timed_side_by_side(library: tuning.Library, net, session: tuning.LocalSession) -> None:
    inputs = {name: [net.image()] for name in ("before", "after")}
    latency = tuning.measure(session, dict.fromkeys(inputs, library), inputs, rounds=5)
    assert list(latency) == ["before", "after"]
    for each in latency.values():
        assert each.runs == len(each.times_ms) == 5
        assert 0 < min(each.times_ms) <= each.median_ms <= each.p90_ms <= max(each.times_ms)


def test_latency_is_summed_up_as_said() -> None:
    latency = tuning.Latency(tuple(float(number) for number in range(1, 12)))
    assert (latency.median_ms, latency.p90_ms, latency.runs) == (6.0, 10.0, 11)


def test_runs_far_above_the_others_are_counted() -> None:
    assert tuning.Latency((1.0, 1.01, 0.99, 5.0, 1.02)).outliers == 1


def test_a_key_nobody_serves_is_told(
    library: tuning.Library, net, session: tuning.LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "RETURN_SECONDS", 0.2)
    config = session.rpc_config
    remote = tuning.RemoteSession(config.host, config.port, "phone", threads=1)
    with pytest.raises(tuning.TuningError, match=r"^no device serves the key 'phone'.*: local$"):
        tuning.run_remote(remote, library, [net.image()])


def test_a_device_that_is_away_is_waited_for(library: tuning.Library, net, host: targets.TargetInfo) -> None:
    with tuning.LocalSession(host, threads=1) as local:
        os.kill(local.process_ids[1], signal.SIGKILL)
        (output,) = tuning.run_remote(local, library, [net.image(2)])
    np.testing.assert_allclose(output, net.in_torch(net.image(2)), rtol=1e-5, atol=1e-6)


def test_a_missing_file_is_told_in_one_line(net, session: tuning.LocalSession, tmp_path: Path) -> None:
    missing = tuning.Library(tmp_path / "no.so", tmp_path / "no.params")
    with pytest.raises(tuning.TuningError, match=r"running on the device failed: .*no\.so") as error:
        tuning.run_remote(session, missing, [net.image()])
    assert "\n" not in str(error.value)


@T.prim_func(s_tir=True)
def thread_ids(ids: T.Buffer((2,), "int64")):
    T.func_attr({"global_symbol": "main"})
    for i in T.parallel(2):
        with T.sblock("ids"):
            v_i = T.axis.spatial(2, i)
            ids[v_i] = T.call_extern("int64", "pthread_self")


@pytest.mark.parametrize("threads", [1, 2])
def test_code_runs_on_as_many_threads_as_the_session_says(
    threads: int, host: targets.TargetInfo, tmp_path: Path
) -> None:
    path = tmp_path / "threads.so"
    tvm.tirx.build(tvm.IRModule({"main": thread_ids}), target=host.target()).export_library(str(path))
    with tuning.LocalSession(host, threads=threads) as session:
        remote = tracker.request(session.rpc_config, 30, 30).remote
        remote.upload(str(path))
        ids = tvm.runtime.tensor(np.zeros(2, "int64"), remote.cpu())
        remote.load_module(path.name)["main"](ids)
        assert len(set(ids.numpy())) == threads
