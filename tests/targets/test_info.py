"""A target's facts: TVM's view of it, its threads, its compiler."""

import dataclasses
import os
import pickle
import subprocess
import sys

import pytest
import tvm

import targets


@pytest.fixture
def host() -> targets.TargetInfo:
    return targets.find("host")


def test_target_has_the_machines_processor_and_all_its_cores(host: targets.TargetInfo) -> None:
    exported = host.target().export()
    assert exported["kind"] == "llvm"
    assert exported["mcpu"] == tvm.get_global_func("target.llvm_get_system_cpu")()
    assert exported["num-cores"] == host.threads


def test_threads_follow_the_affinity_mask() -> None:
    one = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); import targets; print(targets.find('host').threads)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert printed.stdout.strip() == "1"


def test_the_number_of_threads_can_be_chosen(host: targets.TargetInfo) -> None:
    assert host.with_threads(None) is host
    one = host.with_threads(1)
    assert (one.threads, one.target().export()["num-cores"]) == (1, 1)


def test_measured_on_names_processor_cores_and_system(host: targets.TargetInfo) -> None:
    assert f", {host.threads} core" in host.measured_on()
    assert host.measured_on().endswith(f"Linux {os.uname().machine}")


def test_a_named_processor_and_number_of_cores_are_used(host: targets.TargetInfo) -> None:
    board = dataclasses.replace(
        host, name="board", triple="aarch64-linux-gnu", cpu="cortex-a72", cores=4, device="a board"
    )
    exported = board.target().export()
    assert (exported["mcpu"], exported["mtriple"]) == ("cortex-a72", "aarch64-linux-gnu")
    assert (board.threads, exported["num-cores"]) == (4, 4)
    assert board.measured_on() == "a board"


def test_compiler_is_found_or_its_package_named(host: targets.TargetInfo) -> None:
    assert os.access(host.require_compiler(), os.X_OK)
    board = dataclasses.replace(host, compiler="no-such-g++", compiler_package="g++-no-such")
    with pytest.raises(targets.TargetError, match=r"install the package g\+\+-no-such$"):
        board.require_compiler()


def test_survives_pickling(host: targets.TargetInfo) -> None:
    assert pickle.loads(pickle.dumps(host)) == host


def test_importing_targets_does_not_import_tvm() -> None:
    program = "import sys, targets; targets.all_targets(); print('tvm' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert printed.stdout.strip() == "False"
