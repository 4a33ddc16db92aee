"""Which OpenCL device is used, and what is told where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from targets import TargetError
from targets.runtime import opencl

USE = """
import sys, tvm
assert tvm.opencl(0).exist is False
try:
    tvm.runtime.empty((1,), "int8", tvm.opencl(0))
except (RuntimeError, ValueError) as error:
    print(error)
"""


def said_when_used(**environment: str) -> str:
    """Return what a process is told that wants to use OpenCL."""
    run = subprocess.run(
        [sys.executable, "-c", USE],
        env=os.environ | {"TVM_USE_RUNTIME_LIB": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("how", ["number", "name", "platform", "empty"])
def test_a_device_is_chosen(needs_opencl, how: str):
    there = opencl.listing("")
    first = there.devices[0]
    wanted = {"number": "0", "name": first.name[3:9].upper(), "platform": "portable COMPUTING", "empty": ""}[
        how
    ]
    assert opencl.listing(wanted).chosen == there.chosen == first
    assert first.type == "cpu"


def test_a_choice_that_is_not_there_lists_what_is(needs_opencl):
    first = opencl.listing().devices[0]
    for wanted in ("mali", "1", "-1", "ä"):
        with pytest.raises(TargetError) as told:
            opencl.listing(wanted)
        variable, listed = "DEEPREBIRTH_OPENCL_DEVICE", f"0: {first.name} ({first.platform})"
        assert str(told.value) == f"no OpenCL device is {wanted} ({variable}); choose from {listed}"
    assert said_when_used(DEEPREBIRTH_OPENCL_DEVICE="mali").count("\n") == 1


def test_no_device_is_told_in_one_line(needs_opencl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    line = said_when_used()
    assert line.startswith(
        "OpenCL has no device here: install the driver of the GPU's vendor, or pocl-opencl-icd"
    )
    assert line.count("\n") == 1
    with pytest.raises(opencl.NoDevice, match="pocl-opencl-icd"):
        opencl.listing()


def test_no_driver_is_told_in_one_line(needs_opencl, tmp_path: Path):
    missing = tmp_path / "libOpenCL.so"
    line = said_when_used(DEEPREBIRTH_OPENCL_LIBRARY=str(missing))
    assert line.startswith(f"there is no OpenCL driver here (tried {missing}): install the driver")
    assert line.count("\n") == 1


def test_importing_tvm_starts_no_opencl_and_says_nothing(needs_opencl, tmp_path: Path):
    """With a library in the driver's place that would say so and end the process."""
    source = tmp_path / "driver.c"
    source.write_text(
        "#include <stdlib.h>\n__attribute__((constructor)) static void started(void) { _Exit(9); }\n"
    )
    driver = tmp_path / "libOpenCL.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", driver, source], check=True)
    code = "import tvm; assert tvm.get_global_func('device_api.opencl')(); {}"
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "TVM_USE_RUNTIME_LIB": "1"}
    for then, wanted in (("", 0), ("tvm.opencl(0).exist", 9)):
        run = subprocess.run(
            [sys.executable, "-c", code.format(then)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (run.returncode, run.stdout, run.stderr) == (wanted, "", "")
