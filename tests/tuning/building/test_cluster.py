"""The cluster builder on a real Dask cluster of several processes on loopback, some of which are killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import distributed
import numpy as np
import pytest
import tvm
from tvm import te

import targets
from tuning.building.built import Built
from tuning.building.cluster import ClusterBuilder
from tuning.building.local import LocalBuilder
from tuning.errors import TuningError
from tuning.failures import Cause

LIMIT = 240


def scaled(factor: int) -> tvm.IRModule:
    """Return a function that multiplies 64 numbers by a factor."""
    values = te.placeholder((64,), name="values")
    result = te.compute((64,), lambda i: values[i] * factor, name="result")
    return tvm.IRModule({"main": te.create_prim_func([values, result])})


def computed(built: Built) -> np.ndarray:
    """Return what the library makes of 0 to 63."""
    library = tvm.runtime.load_module(str(built.path))
    values = tvm.runtime.tensor(np.arange(64, dtype="float32"))
    result = tvm.runtime.tensor(np.zeros(64, dtype="float32"))
    library["main"](values, result)
    return result.numpy()


def cluster_of(workers: int) -> distributed.LocalCluster:
    """Start a scheduler and worker processes on loopback, without the dashboard."""
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=50,
    )


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with cluster_of(3) as started:
        yield started


@pytest.fixture
def gated(tmp_path: Path, host: targets.TargetInfo) -> targets.TargetInfo:
    """The host with a compiler that waits for the file ``open`` beside it, and crashes for one candidate."""
    compiler = tmp_path / "gated g++"
    compiler.write_text(
        '#!/bin/sh\nwhile [ ! -e "${0%/*}/open" ]; do sleep 0.05; done\nexec g++ "$@"\n', encoding="ascii"
    )
    compiler.chmod(0o755)
    return replace(host, compiler=str(compiler))


def test_nothing_but_time_is_lost_with_a_worker(
    cluster: distributed.LocalCluster, gated: targets.TargetInfo, tmp_path: Path, host: targets.TargetInfo
) -> None:
    builder = ClusterBuilder(cluster.scheduler_address, gated, seconds=LIMIT, connect_seconds=LIMIT)
    local = LocalBuilder(host, workers=1)
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as observer:
        pids = observer.run(os.getpid)
        futures = [builder.submit(scaled(factor)) for factor in range(9)]
        until(lambda: all(observer.processing().values()))
        assert builder.slots == 3
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        (tmp_path / "open").touch()
        built = [future.result(LIMIT) for future in futures]
    assert [each.failure for each in built] == [None] * 9
    for factor, each in enumerate(built):
        expected = computed(local.submit(scaled(factor)).result(LIMIT))
        np.testing.assert_array_equal(expected, factor * np.arange(64))
        np.testing.assert_array_equal(computed(each), expected)
        assert each.seconds > 0
    local.close()
    builder.close()
    assert not any(each.path.exists() for each in built)


def test_a_crash_a_time_out_and_an_error_cost_their_candidates_and_no_worker(
    cluster: distributed.LocalCluster, tmp_path: Path, host: targets.TargetInfo
) -> None:
    compiler = tmp_path / "treacherous"
    compiler.write_text(
        '#!/bin/sh\nn=$(ls "${0%/*}/made" | wc -l); mkdir "${0%/*}/made/$n" || exit 4\n'
        "case $n in\n0) kill -SEGV $PPID ;;\n1) sleep 600 ;;\n2) echo ld: no >&2; exit 1 ;;\nesac\n"
        'exec g++ "$@"\n',
        encoding="ascii",
    )
    compiler.chmod(0o755)
    (tmp_path / "made").mkdir()
    builder = ClusterBuilder(
        cluster.scheduler_address, replace(host, compiler=str(compiler)), seconds=5, connect_seconds=LIMIT
    )
    built = [builder.submit(scaled(3)).result(LIMIT) for _ in range(4)]
    assert [each.failure and each.failure.cause for each in built] == [
        Cause.BUILD_FAILED,
        Cause.TIMED_OUT,
        Cause.BUILD_FAILED,
        None,
    ]
    assert "SIGSEGV" in built[0].failure.detail
    assert built[2].failure.detail == "treacherous cannot link: ld: no"
    np.testing.assert_array_equal(computed(built[3]), 3 * np.arange(64))
    builder.close()


def test_what_was_not_built_is_cancelled_on_close(
    cluster: distributed.LocalCluster, gated: targets.TargetInfo
) -> None:
    builder = ClusterBuilder(cluster.scheduler_address, gated, seconds=1, connect_seconds=LIMIT)
    futures = [builder.submit(scaled(factor)) for factor in range(5)]
    builder.close()
    assert all(future.cancelled() for future in futures)
    assert builder.submit(scaled(1)).cancelled()


def test_a_worker_without_the_targets_compiler_is_told(
    cluster: distributed.LocalCluster, host: targets.TargetInfo
) -> None:
    lacking = replace(host, compiler="moon-g++", compiler_package="g++-moon")
    with pytest.raises(TuningError, match=r"lacks the compiler moon-g\+\+: install the package g\+\+-moon"):
        ClusterBuilder(cluster.scheduler_address, lacking, connect_seconds=LIMIT)
