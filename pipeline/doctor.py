"""Find out what is missing on this machine, and say how to get it.

Whatever may crash or hang (importing TVM with a wrong ffi, a broken compiler) runs in a process of its own.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline import startup
from targets import TOOLCHAINS, TargetError, Toolchain, machine
from targets.runtime import opencl
from targets.toolchains import HOST

TIMEOUT_S = 60
DISK_NEEDED_GB = 2
COMPILERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")

LLVM_PROBE = """
import json, tvm
version = tvm.get_global_func("target.llvm_version_major", allow_missing=True)
print(json.dumps(version() if version else 0))
"""
THREADS_PROBE = "import json, tvm; print(json.dumps(tvm.runtime.num_threads()))"
VERSION_PROBE = "import json, {0}; print(json.dumps({0}.__version__))"


class Check(BaseModel):
    """One thing that was looked at.

    `remedy` says what to do when it is not `ok`. A check that is `ok` and has a remedy is of something that
    deeprebirth does without and that can be had.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class ProbeFailed(Exception):
    """A child process gave no answer; the message says how it ended."""


def diagnose() -> list[Check]:
    """Look at everything deeprebirth needs here; takes a few seconds.

    Returns
    -------
    list[Check]
        In a fixed order, whatever the outcome.
    """
    with ThreadPoolExecutor(max_workers=max(2, machine.core_count())) as pool:
        return list(pool.map(lambda look: look(), LOOKS))


def python_version() -> Check:
    """Whether this Python is one that deeprebirth supports."""
    found = sys.version_info[:2]
    wanted = _required_python()
    bounds = re.findall(r"(>=|<)\s*(\d+)\.(\d+)", wanted)
    ok = all((found >= (int(major), int(minor))) == (sign == ">=") for sign, major, minor in bounds)
    detail = f"{'.'.join(map(str, sys.version_info[:3]))}, wanted {wanted or 'any'}"
    return _check("Python", ok, detail, "make the virtual environment with such a Python")


def version_pins() -> Check:
    """Whether the pinned packages have their versions."""
    try:
        pins = startup.pins()
    except startup.WrongVersions as error:
        return _check("versions", False, str(error), "install deeprebirth with pip")
    wrong = [pin for pin in pins if not pin.met]
    if wrong:
        return _check("versions", False, startup.explain(wrong), startup.remedy(wrong))
    return _check("versions", True, ", ".join(f"{pin.package} {pin.found}" for pin in pins))


def llvm() -> Check:
    """Whether TVM can be imported and generates code through LLVM."""
    remedy = "install the apache-tvm and apache-tvm-ffi wheels that deeprebirth pins"
    try:
        version = _probe(LLVM_PROBE)
    except ProbeFailed as error:
        return _check("LLVM in TVM", False, f"importing TVM failed: {error}", remedy)
    detail = f"LLVM {version}" if version else "this TVM was built without LLVM"
    return _check("LLVM in TVM", bool(version), detail, remedy)


def threads() -> Check:
    """Whether TVM runs on as many threads as it is told; its own choice is half the cores on x86."""
    cores = machine.core_count()
    runtime = {"TVM_USE_RUNTIME_LIB": "1"}
    try:
        default = _probe(THREADS_PROBE, runtime)
        told = _probe(THREADS_PROBE, runtime | {"TVM_NUM_THREADS": str(cores)})
    except ProbeFailed as error:
        return _check("threads", False, f"TVM did not tell its threads: {error}", "see LLVM in TVM")
    return _check(
        "threads",
        told == cores,
        f"{cores} cores; TVM by itself would use {default}, with TVM_NUM_THREADS={cores} it uses {told}",
        "give --threads a number that TVM accepts",
    )


def compiler() -> Check:
    """Whether the C++ compiler that TVM links libraries with makes a shared object."""
    remedy = "install a C++ compiler: apt-get install g++"
    found = os.environ.get("CXX") or os.environ.get("CC") or _first_compiler()
    if found is None:
        return _check("compiler", False, "no C++ compiler on PATH", remedy)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-doctor-") as directory:
        source = Path(directory) / "probe.cc"
        source.write_text('extern "C" int probe() { return 0; }\n', encoding="ascii")
        command = [found, "-shared", "-fPIC", "-o", str(source.with_suffix(".so")), str(source)]
        try:
            _run(command)
        except ProbeFailed as error:
            return _check("compiler", False, f"{found} cannot make a shared object: {error}", remedy)
    return _check("compiler", True, found)


def rpc_port() -> Check:
    """Whether a port on loopback can be bound and reached, as the local tracker and server do."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        remedy = "allow connections to 127.0.0.1, or name a tracker elsewhere with --tracker"
        return _check("RPC on loopback", False, str(error), remedy)
    return _check("RPC on loopback", True, f"port {port} could be bound and reached")


def disk_space() -> Check:
    """Whether there is room for results and for the temporary files of tuning."""
    places = (Path.cwd(), Path(tempfile.gettempdir()))
    free = {place: shutil.disk_usage(place).free / 1e9 for place in places}
    return _check(
        "disk space",
        min(free.values()) >= DISK_NEEDED_GB,
        ", ".join(f"{gigabytes:.1f} GB free in {place}" for place, gigabytes in free.items()),
        f"make room: {DISK_NEEDED_GB} GB are needed; TMPDIR says where temporary files go",
    )


def importable(package: str) -> Check:
    """Whether a package can be imported."""
    try:
        version = _probe(VERSION_PROBE.format(package))
    except ProbeFailed as error:
        remedy = f"python -m pip install --force-reinstall {package}"
        return _check(package, False, f"importing it failed: {error}", remedy)
    return _check(package, True, version)


def cross_compiler(toolchain: Toolchain) -> Check:
    """Whether libraries for a family of targets can be linked here; a missing compiler is no fault."""
    name = f"for {toolchain.family}"
    remedy = _how_to_get(toolchain)
    if toolchain.find() is None:
        return Check(
            name=name, ok=True, detail=f"cannot be built for: no {toolchain.compiler}", remedy=remedy
        )
    try:
        return _check(name, True, toolchain.probe())
    except TargetError as error:
        return _check(name, False, str(error), remedy)


def opencl_runtime() -> Check:
    """Whether networks can run on an OpenCL device here, and on which; it is no fault if they cannot."""
    name = "OpenCL"
    if not opencl.is_built():
        detail = f"deeprebirth was installed without its OpenCL runtime: {_why_no_plugin()}"
        remedy = (
            "to run networks on a GPU: apt-get install g++ opencl-c-headers, and install deeprebirth again"
        )
        return Check(name=name, ok=True, detail=detail, remedy=remedy)
    try:
        there = opencl.listing()
    except opencl.NoDevice as error:
        detail, _, remedy = str(error).partition(": ")
        return Check(name=name, ok=True, detail=detail, remedy=f"to run networks on a GPU: {remedy}")
    except TargetError as error:
        return _check(name, False, str(error), f"give {opencl.DEVICE_VARIABLE} one of their numbers or names")
    words = ", ".join(
        f"{each.place}: {each.name} ({each.platform}, {each.version})" for each in there.devices
    )
    if len(there.devices) == 1:
        return Check(name=name, ok=True, detail=words)
    choice = f"to use another: `serve --device NAME`, or {opencl.DEVICE_VARIABLE}=NAME"
    return Check(name=name, ok=True, detail=f"{words}; {there.chosen.place} is used", remedy=choice)


def _opencl_device(device: opencl.OpenCLDevice) -> str:
    return f"{device.place}: {device.name} ({device.platform}, {device.version})"


def _why_no_plugin() -> str:
    """Try what building the plug-in needs."""
    found = _first_compiler()
    if found is None:
        return "no C++ compiler"
    with tempfile.TemporaryDirectory(prefix="deeprebirth-doctor-") as directory:
        source = Path(directory) / "probe.cc"
        source.write_text("#include <CL/cl.h>\n", encoding="ascii")
        try:
            _run([found, "-fsyntax-only", str(source)])
        except ProbeFailed:
            return "OpenCL's headers (CL/cl.h) are not here"
    return "headers and compiler are here now"


LOOKS: tuple[Callable[[], Check], ...] = (
    python_version,
    version_pins,
    llvm,
    threads,
    compiler,
    rpc_port,
    disk_space,
    partial(importable, "torch"),
    partial(importable, "onnxruntime"),
    opencl_runtime,
    *(partial(cross_compiler, toolchain) for toolchain in TOOLCHAINS if toolchain is not HOST),
)


def _check(name: str, ok: bool, detail: str, remedy: str = "") -> Check:
    return Check(name=name, ok=ok, detail=" ".join(detail.split()), remedy="" if ok else remedy)


def _how_to_get(toolchain: Toolchain) -> str:
    if toolchain.is_on_path:
        return f"to build for it: apt-get install {toolchain.package}"
    return f"to build for it: {toolchain.remedy}"


def _required_python() -> str:
    try:
        return metadata.metadata(startup.DISTRIBUTION)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return ""


def _first_compiler() -> str | None:
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def _probe(code: str, environment: dict[str, str] | None = None) -> object:
    """Run Python code in a child, without the TVM settings of this process, and read the JSON it prints."""
    inherited = {key: value for key, value in os.environ.items() if key != "TVM_NUM_THREADS"}
    output = _run([sys.executable, "-c", code], inherited | (environment or {}))
    try:
        return json.loads(output.rstrip().rpartition("\n")[2])
    except ValueError as error:
        raise ProbeFailed("it printed no answer") from error


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    try:
        run = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed(f"no answer within {TIMEOUT_S} s") from error
    except OSError as error:
        raise ProbeFailed(str(error)) from error
    if run.returncode < 0:
        raise ProbeFailed(f"it was ended by {signal.Signals(-run.returncode).name}")
    if run.returncode > 0:
        raise ProbeFailed((run.stderr.strip().splitlines() or ["it gave no reason"])[-1])
    return run.stdout
