"""The local builder: a crash, a time-out or a lack of memory costs one candidate; artefacts are libraries."""

import os
import tempfile
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te

import targets
from tuning.building.built import Built
from tuning.building.local import LocalBuilder
from tuning.failures import Cause

# A compiler that goes wrong in another way for each of the first candidates.
TREACHEROUS = """#!/bin/sh
case "$*" in
  */1/candidate.so*) kill -SEGV $PPID ;;
  */2/candidate.so*) sleep 600 ;;
  */3/candidate.so*) echo "ld: cannot find -lmoon" >&2; echo "more" >&2; exit 1 ;;
  */4/candidate.so*) exit 3 ;;
  */5/candidate.so*) kill -KILL $PPID ;;
esac
exec g++ "$@"
"""


def scaled(factor: int, size: int = 64) -> tvm.IRModule:
    """Return a function that multiplies some numbers by a factor."""
    values = te.placeholder((size,), name="values")
    result = te.compute((size,), lambda i: values[i] * factor, name="result")
    return tvm.IRModule({"main": te.create_prim_func([values, result])})


def computed(built: Built) -> np.ndarray:
    """Return what the library makes of 0 to 63."""
    library = tvm.runtime.load_module(str(built.path))
    values = tvm.runtime.tensor(np.arange(64, dtype="float32"))
    result = tvm.runtime.tensor(np.zeros(64, dtype="float32"))
    library["main"](values, result)
    return result.numpy()


@pytest.fixture
def treacherous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: targets.TargetInfo
) -> targets.TargetInfo:
    """The host with a compiler that fails for some candidates, in a folder with spaces and other letters."""
    folder = tmp_path / "Übersetzer mit Platz"
    folder.mkdir()
    compiler = folder / "treacherous compiler"
    compiler.write_text(TREACHEROUS, encoding="ascii")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return targets.TargetInfo(host.name, "", host.triple, host.cpu, compiler=compiler.name)


def test_each_failure_costs_its_candidate_and_is_told_by_its_cause(treacherous: targets.TargetInfo) -> None:
    builder = LocalBuilder(treacherous, workers=2, seconds=5)
    futures = [builder.submit(scaled(factor)) for factor in range(8)]
    built = [future.result(120) for future in futures]
    causes = [each.failure and (each.failure.cause, each.failure.detail) for each in built]
    try:
        assert causes == [
            None,
            (Cause.BUILD_FAILED, "the process doing it was ended by SIGSEGV"),
            (Cause.TIMED_OUT, "building took longer than 5 s"),
            (Cause.BUILD_FAILED, "treacherous compiler cannot link: ld: cannot find -lmoon"),
            (Cause.BUILD_FAILED, "treacherous compiler cannot link: it ended with code 3"),
            (Cause.OUT_OF_MEMORY, "building it: the process doing it was ended by SIGKILL"),
            None,
            None,
        ]
        for factor in (0, 6, 7):
            np.testing.assert_array_equal(computed(built[factor]), factor * np.arange(64))
        assert all(each.path is None for each in built if each.failure)
    finally:
        builder.close()


def test_a_candidate_that_eats_memory_costs_itself(host: targets.TargetInfo) -> None:
    schedule = tvm.s_tir.Schedule(scaled(2, size=1 << 24))
    schedule.unroll(schedule.get_loops(schedule.get_sblock("result"))[0])
    builder = LocalBuilder(host, workers=1, seconds=120, memory_bytes=300 << 20)
    hungry, modest = (builder.submit(module) for module in (schedule.mod, scaled(2)))
    try:
        assert hungry.result(120).failure.cause is Cause.OUT_OF_MEMORY
        assert hungry.result().failure.detail == "building it: needed more than 300 MiB of memory"
        np.testing.assert_array_equal(computed(modest.result(120)), 2 * np.arange(64))
    finally:
        builder.close()


def test_a_candidate_that_does_not_compile_is_told_in_one_line(host: targets.TargetInfo) -> None:
    body = tvm.tirx.Evaluate(tvm.tirx.call_extern("int32", "nothing", te.var("unbound")))
    broken = tvm.IRModule({"main": tvm.tirx.PrimFunc([], body).with_attr("global_symbol", "main")})
    builder = LocalBuilder(host, workers=1)
    failed = builder.submit(broken).result(120)
    builder.close()
    assert failed.failure.cause is Cause.BUILD_FAILED
    assert "unbound" in failed.failure.detail
    assert "\n" not in str(failed.failure)


def test_artefacts_are_libraries_that_go_when_told_or_on_close(host: targets.TargetInfo) -> None:
    builder = LocalBuilder(host, workers=1)
    first, second = (builder.submit(scaled(factor)).result(120) for factor in (2, 3))
    np.testing.assert_array_equal(computed(first), 2 * np.arange(64))
    assert first.seconds > 0
    first.discard()
    assert not first.path.parent.exists()
    assert second.path.exists()
    builder.close()
    assert not second.path.parent.parent.exists()


def test_what_was_not_built_is_cancelled_on_close(
    host: targets.TargetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    builder = LocalBuilder(host, workers=1)
    futures = [builder.submit(scaled(factor)) for factor in range(20)]
    builder.close()
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()
    assert builder.submit(scaled(1)).cancelled()
    assert not list(tmp_path.iterdir())


def test_a_candidate_that_nobody_wants_any_more_is_left_out(host: targets.TargetInfo) -> None:
    builder = LocalBuilder(host, workers=1)
    unwanted: Future[Built] = builder.submit(scaled(1))
    assert unwanted.cancel()
    assert builder.submit(scaled(2)).result(120).failure is None
    builder.close()
    assert unwanted.cancelled()


def test_it_has_as_many_slots_as_workers(host: targets.TargetInfo) -> None:
    builder = LocalBuilder(host, workers=3)
    builder.close()
    default = LocalBuilder(host)
    assert default.slots == targets.machine.core_count()
    default.close()
