"""The builder: a candidate's crash or time-out costs that candidate; artefacts are libraries."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir.meta_schedule.builder import BuilderInput

import targets
from tuning.building.builder import CandidateBuilder

# A compiler that crashes its worker for the second candidate and hangs for the third.
TREACHEROUS = """#!/bin/sh
case "$*" in
  */2/candidate.so*) kill -SEGV $PPID ;;
  */3/candidate.so*) sleep 600 ;;
esac
exec g++ "$@"
"""


@pytest.fixture
def candidate(host: targets.TargetInfo) -> BuilderInput:
    values = te.placeholder((64,), name="values")
    doubled = te.compute((64,), lambda i: values[i] * 2, name="doubled")
    module = tvm.IRModule({"main": te.create_prim_func([values, doubled])})
    return BuilderInput(module, host.target())


def test_a_crash_and_a_time_out_cost_only_their_candidates(tmp_path: Path, candidate: BuilderInput) -> None:
    compiler = tmp_path / "treacherous compiler"
    compiler.write_text(TREACHEROUS, encoding="ascii")
    compiler.chmod(0o755)
    builder = CandidateBuilder(str(compiler), workers=2, seconds=8)
    results = builder.build([candidate] * 5)
    try:
        assert [result.error_msg for result in results] == [
            None,
            "build failed: the process doing it was ended by SIGSEGV",
            "build failed: took longer than 8 s",
            None,
            None,
        ]
        again = builder.build([candidate])
        assert again[0].error_msg is None
    finally:
        builder.close()


def test_an_artefact_is_a_library_that_computes_and_goes_on_close(candidate: BuilderInput) -> None:
    builder = CandidateBuilder("g++", workers=1)
    (result,) = builder.build([candidate])
    path = Path(str(result.artifact_path))
    assert path.read_bytes()[:4] == b"\x7fELF"
    library = tvm.runtime.load_module(str(path))
    values = tvm.runtime.tensor(np.arange(64, dtype="float32"))
    doubled = tvm.runtime.tensor(np.zeros(64, dtype="float32"))
    library["main"](values, doubled)
    np.testing.assert_array_equal(doubled.numpy(), 2 * np.arange(64))
    builder.close()
    assert not path.exists()


def test_the_cause_of_a_failure_is_told_in_one_line(candidate: BuilderInput) -> None:
    builder = CandidateBuilder("false", workers=1)
    (result,) = builder.build([candidate])
    builder.close()
    assert str(result.error_msg).startswith("build failed: ")
    assert "\n" not in str(result.error_msg)
