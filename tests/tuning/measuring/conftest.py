"""Candidates that do what a test needs, written in C."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tvm.s_tir.meta_schedule.arg_info import TensorInfo

import targets

CandidateOf = Callable[[str], Path]

_SOURCE = """
#include <csignal>
#include <cstdlib>
#include <unistd.h>
extern "C" int __tvm_ffi_main(void *self, const void *arguments, int count, void *result) {{
  {}
  return 0;
}}
"""


@pytest.fixture
def args_info() -> list[TensorInfo]:
    return [TensorInfo("float32", (64,)), TensorInfo("float32", (2, 32))]


@pytest.fixture
def candidate_of(tmp_path: Path, host: targets.TargetInfo) -> CandidateOf:
    """Compile statements of C into a candidate's library; each stands in a folder of its own."""
    made: dict[str, Path] = {}

    def compile_one(statements: str) -> Path:
        if statements not in made:
            folder = tmp_path / f"Kandidat {len(made)} für ☃"
            folder.mkdir()
            source = folder / "candidate.cc"
            source.write_text(_SOURCE.format(statements), encoding="utf-8")
            made[statements] = folder / "candidate.so"
            command = [host.require_compiler(), "-shared", "-fPIC", "-o", made[statements], source]
            subprocess.run(command, check=True, timeout=60)
        return made[statements]

    return compile_one
