import os
import shutil
import socket
import sys
from importlib import metadata
from pathlib import Path

import pytest

from pipeline import doctor
from targets.runtime import opencl
from targets.toolchains import ARM64_ANDROID, ARM64_LINUX


def test_everything_is_looked_at():
    checks = doctor.diagnose()
    assert [check.name for check in checks] == [
        "Python",
        "versions",
        "LLVM in TVM",
        "threads",
        "compiler",
        "RPC on loopback",
        "disk space",
        "torch",
        "onnxruntime",
        "OpenCL",
        "for 64-bit ARM Linux",
        "for 32-bit ARM Linux",
        "for 64-bit ARM Android",
        "for 32-bit ARM Android",
    ]
    for check in checks:
        assert check.detail
        assert check.remedy or check.ok
        assert check.ok or not check.name.startswith("for ")
        assert doctor.Check.model_validate_json(check.model_dump_json()) == check
    assert {check.name for check in checks if not check.ok} <= {"disk space"}


def test_a_newer_ffi_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    real = metadata.version
    newer = {"apache-tvm-ffi": "0.1.15.post2"}
    monkeypatch.setattr(metadata, "version", lambda package: newer.get(package) or real(package))
    check = doctor.version_pins()
    assert not check.ok
    assert "apache-tvm-ffi 0.1.15.post2" in check.detail
    assert "ends the process" in check.detail
    assert check.remedy.startswith('run: python -m pip install "apache-tvm-ffi==')


def test_another_python(monkeypatch: pytest.MonkeyPatch):
    for version, ok in (((3, 10, 1), False), ((3, 11, 0), True), ((3, 12, 0), False)):
        monkeypatch.setattr(sys, "version_info", version)
        assert doctor.python_version().ok is ok


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    check = doctor.compiler()
    assert (check.ok, check.detail) == (False, "no C++ compiler on PATH")
    assert "apt-get install g++" in check.remedy


def test_a_compiler_that_does_not_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = tmp_path / "my g++"
    broken.write_text("#!/bin/sh\necho 'cannot find crti.o' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    check = doctor.compiler()
    assert not check.ok
    assert check.detail == f"{broken} cannot make a shared object: cannot find crti.o"


def test_a_cross_compiler_that_is_missing_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    check = doctor.cross_compiler(ARM64_LINUX)
    assert check.ok
    assert check.detail == "cannot be built for: no aarch64-linux-gnu-g++"
    assert check.remedy == "to build for it: apt-get install g++-aarch64-linux-gnu"


def test_a_cross_compiler_of_another_machine_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ARM64_LINUX.compiler).symlink_to(shutil.which("g++"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    check = doctor.cross_compiler(ARM64_LINUX)
    assert not check.ok
    assert "and not for AArch64" in check.detail


def test_an_android_ndk_that_is_missing_is_asked_for_by_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ANDROID_NDK_HOME", raising=False)
    monkeypatch.delenv("ANDROID_NDK_ROOT", raising=False)
    check = doctor.cross_compiler(ARM64_ANDROID)
    assert check.ok
    assert "set ANDROID_NDK_HOME" in check.remedy


def test_a_package_that_crashes_on_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "crashing.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = doctor.importable("crashing")
    assert (check.ok, check.detail) == (False, "importing it failed: it was ended by SIGSEGV")


def test_a_package_that_is_missing_or_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert "No module named 'not_there'" in doctor.importable("not_there").detail
    (tmp_path / "hanging.py").write_text("import threading; threading.Event().wait()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.5)
    assert doctor.importable("hanging").detail == "importing it failed: no answer within 0.5 s"


def test_loopback_that_is_closed(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object, **__: object):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refused)
    assert not doctor.rpc_port().ok


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "DISK_NEEDED_GB", 10**9)
    check = doctor.disk_space()
    assert not check.ok
    assert os.getcwd() in check.detail


def test_threads_ignore_a_setting_of_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "7")
    assert "would use 7" not in doctor.threads().detail


def test_an_opencl_runtime_that_was_not_built_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(opencl, "is_built", lambda: False)
    monkeypatch.setattr(doctor, "COMPILERS", ("failing-compiler",))
    check = doctor.opencl_runtime()
    assert check.ok
    assert check.detail.endswith("without its OpenCL runtime: no C++ compiler")
    compiler = tmp_path / "failing-compiler"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = doctor.opencl_runtime()
    assert check.ok
    assert check.detail.endswith("OpenCL's headers (CL/cl.h) are not here")
    assert "apt-get install g++ opencl-c-headers" in check.remedy


@pytest.fixture
def needs_opencl() -> None:
    if not opencl.is_built():
        pytest.skip("needs the package opencl-c-headers when deeprebirth is installed")
    try:
        opencl.listing()
    except opencl.NoDevice:
        pytest.skip("needs the package pocl-opencl-icd")


def test_opencl_devices_are_listed(needs_opencl: None):
    check = doctor.opencl_runtime()
    assert check.ok
    assert all(each.name in check.detail for each in opencl.listing().devices)


def test_no_opencl_device_is_no_fault(needs_opencl: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    check = doctor.opencl_runtime()
    assert (check.ok, check.detail) == (True, "OpenCL has no device here")
    assert "pocl-opencl-icd" in check.remedy


def test_an_opencl_device_that_is_not_there_is_a_fault(needs_opencl: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(opencl.DEVICE_VARIABLE, "mali-g0")
    check = doctor.opencl_runtime()
    assert not check.ok
    assert "no OpenCL device is mali-g0" in check.detail
    assert opencl.DEVICE_VARIABLE in check.remedy


def test_two_opencl_devices_are_to_choose_from(monkeypatch: pytest.MonkeyPatch):
    devices = tuple(
        opencl.OpenCLDevice(place, f"Mali {place}", "ARM", "OpenCL 3.0", "1", "gpu", 4, 256, 1, 1, 1, True)
        for place in range(2)
    )
    monkeypatch.setattr(opencl, "is_built", lambda: True)
    monkeypatch.setattr(opencl, "listing", lambda: opencl.Listing(devices, devices[1]))
    check = doctor.opencl_runtime()
    assert check.ok
    assert check.detail == "0: Mali 0 (ARM, OpenCL 3.0), 1: Mali 1 (ARM, OpenCL 3.0); 1 is used"
    assert "serve --device NAME" in check.remedy
