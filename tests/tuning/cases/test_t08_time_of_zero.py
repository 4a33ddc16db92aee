"""T8 (apache/tvm PR 13354): a measured time of zero fails its trial, and tuning goes on.

The device's clock stands still as long as a file is there: the server runs with a library that takes the
place of the clock that TVM reads.
"""

import subprocess
from pathlib import Path

import pytest
from tvm.s_tir.meta_schedule.arg_info import TensorInfo

import targets
import tuning
from tuning.failures import Cause
from tuning.measuring.runner import Runner

SECONDS = 120
CLOCK = """
#include <ctime>
#include <unistd.h>
namespace std { namespace chrono { inline namespace _V2 {
struct system_clock { static long now(); };
long system_clock::now() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return access("%s", F_OK) ? t.tv_sec * 1000000000L + t.tv_nsec : 0;
}
}}}
"""
CANDIDATE = """
#include <unistd.h>
extern "C" int __tvm_ffi_main(void *, const void *, int, void *) { usleep(1000); return 0; }
"""


def compiled(source: str, path: Path, host: targets.TargetInfo) -> Path:
    path.with_suffix(".cc").write_text(source, encoding="utf-8")
    command = [host.require_compiler(), "-shared", "-fPIC", "-o", path, path.with_suffix(".cc")]
    subprocess.run(command, check=True, timeout=60)
    return path


def test_a_time_of_zero_fails_its_trial_only(
    host: targets.TargetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tmp_path / "the clock stands still"
    clock = compiled(CLOCK % stopped, tmp_path / "clock.so", host)
    candidate = compiled(CANDIDATE, tmp_path / "candidate.so", host)
    args_info = [TensorInfo("float32", (4,))]
    monkeypatch.setenv("LD_PRELOAD", str(clock))
    with tuning.LocalSession(host, threads=1) as session:
        monkeypatch.delenv("LD_PRELOAD")
        with Runner(session.rpc_config) as runner:
            assert runner.submit(candidate, args_info).result(SECONDS).failure is None
            stopped.touch()
            zero = runner.submit(candidate, args_info).result(SECONDS)
            stopped.unlink()
            assert runner.submit(candidate, args_info).result(SECONDS).failure is None
    assert zero.seconds == ()
    assert zero.failure.cause is Cause.NO_TIME
    assert zero.failure.detail == "the device's clock says 0 s"
