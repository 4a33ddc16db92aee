"""Compiles what a board runs: the RPC server, and the OpenCL plug-in where a GPU runs the network."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from targets.errors import TargetError
from targets.runtime.tvm_runtime import TvmRuntime

SOURCES = Path(__file__).with_name("server")
PLUGIN_SOURCES = Path(__file__).with_name("opencl")
_STANDARD = ("-std=c++17", "-O2")
_SYSTEM_LIBRARIES = ("-ldl", "-pthread")
_OPENCL_HEADERS = ("/usr/include", "/usr/local/include", "/opt/homebrew/include")
_SECONDS = 600.0


def compile_server(compiler: str, runtime: TvmRuntime, program: Path) -> None:
    """Compile and link the server; on the board it looks for TVM's libraries in ``../lib``.

    Raises
    ------
    TargetError
        If that fails.
    """
    link = (*_libraries(runtime), "-Wl,-rpath,$ORIGIN/../lib")
    _run([compiler, *_STANDARD, *_headers(runtime), *_sources(SOURCES), "-s", "-o", str(program), *link])


def compile_plugin(compiler: str, runtime: TvmRuntime, library: Path) -> None:
    """Compile and link the OpenCL plug-in, which looks for TVM's libraries beside itself.

    Raises
    ------
    TargetError
        If that fails, or OpenCL's headers are not here.
    """
    shared = ("-shared", "-fPIC", "-fvisibility=hidden", "-s", "-Wl,-z,defs", "-Wl,-rpath,$ORIGIN")
    with tempfile.TemporaryDirectory(prefix="deeprebirth-opencl-") as folder:
        headers = (*_headers(runtime), *_opencl_headers(Path(folder)))
        sources = _sources(PLUGIN_SOURCES)
        _run([compiler, *_STANDARD, *shared, *headers, *sources, "-o", str(library), *_libraries(runtime)])


def check_sources(compiler: str, runtime: TvmRuntime) -> None:
    """Compile the server without linking; raises as ``compile_server`` does."""
    _run([compiler, *_STANDARD, "-fsyntax-only", *_headers(runtime), *_sources(SOURCES)])


def check_plugin(compiler: str, runtime: TvmRuntime) -> None:
    """Compile the plug-in without linking; raises as ``compile_plugin`` does."""
    with tempfile.TemporaryDirectory(prefix="deeprebirth-opencl-") as folder:
        headers = (*_headers(runtime), *_opencl_headers(Path(folder)))
        _run([compiler, *_STANDARD, "-fsyntax-only", *headers, *_sources(PLUGIN_SOURCES)])


def find_opencl_headers() -> Path:
    """Return the folder ``CL`` of this machine; its headers are the same for all machines.

    Raises
    ------
    TargetError
        If it is not there.
    """
    found = next((Path(each, "CL") for each in _OPENCL_HEADERS if Path(each, "CL/cl.h").is_file()), None)
    if found is None:
        raise TargetError("the OpenCL runtime needs OpenCL's headers: install the package opencl-c-headers")
    return found


def strip(compiler: str, library: Path) -> None:
    """Remove from a library what is not needed to load it; raises as ``compile_server`` does."""
    tool = _run([compiler, "-print-prog-name=strip"]).strip()
    _run([tool, "--strip-unneeded", str(library)])


def _headers(runtime: TvmRuntime) -> list[str]:
    return [word for folder in runtime.headers for word in ("-isystem", str(folder))]


def _opencl_headers(folder: Path) -> list[str]:
    """Let the compiler see OpenCL's headers and none of this machine's others beside them."""
    (folder / "CL").symlink_to(find_opencl_headers())
    return ["-isystem", str(folder)]


def _libraries(runtime: TvmRuntime) -> list[str]:
    names = (f"-l{path.stem.removeprefix('lib')}" for path in runtime.libraries)
    places = sorted({f"-L{path.parent}" for path in runtime.libraries})
    return [*places, "-Wl,--no-as-needed", *names, "-Wl,--as-needed", *_SYSTEM_LIBRARIES]


def _sources(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.glob("*.cc"))


def _run(command: Sequence[str]) -> str:
    name = Path(command[0]).name
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise TargetError(f"{name} took longer than {_SECONDS:g} s for the board's server") from None
    except OSError as error:
        raise TargetError(f"{name} cannot be run: {error.strerror or error}") from None
    if run.returncode == 0:
        return run.stdout.decode(errors="replace")
    lines = run.stderr.decode(errors="replace").strip().splitlines()
    causes = [line for line in lines if "error" in line] or lines or [f"it ended with code {run.returncode}"]
    raise TargetError(f"{name} cannot make the board's server: {causes[0].strip()}")
