"""Compiles the RPC server for a board."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from targets.errors import TargetError
from targets.runtime.tvm_runtime import TvmRuntime

SOURCES = Path(__file__).with_name("server")
_STANDARD = ("-std=c++17", "-O2")
_SECONDS = 600.0


def compile_server(compiler: str, runtime: TvmRuntime, program: Path) -> None:
    """Compile and link the server; on the board it looks for TVM's libraries in ``../lib``.

    Raises
    ------
    TargetError
        If that fails.
    """
    libraries = (f"-l{path.stem.removeprefix('lib')}" for path in runtime.libraries)
    places = sorted({f"-L{path.parent}" for path in runtime.libraries})
    link = ("-s", *places, "-Wl,--no-as-needed", *libraries, "-Wl,--as-needed", "-Wl,-rpath,$ORIGIN/../lib")
    _run([compiler, *_STANDARD, *_headers(runtime), *_sources(), "-o", str(program), *link])


def check_sources(compiler: str, runtime: TvmRuntime) -> None:
    """Compile the server without linking; raises as ``compile_server`` does."""
    _run([compiler, *_STANDARD, "-fsyntax-only", *_headers(runtime), *_sources()])


def strip(compiler: str, library: Path) -> None:
    """Remove from a library what is not needed to load it; raises as ``compile_server`` does."""
    tool = _run([compiler, "-print-prog-name=strip"]).strip()
    _run([tool, "--strip-unneeded", str(library)])


def _headers(runtime: TvmRuntime) -> list[str]:
    return [word for folder in runtime.headers for word in ("-isystem", str(folder))]


def _sources() -> list[str]:
    return sorted(str(path) for path in SOURCES.glob("*.cc"))


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
