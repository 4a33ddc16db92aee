"""The OpenCL C of built kernels, and a compiler's opinion of it.

A driver compiles kernels only when they first run. Where the driver of this machine cannot, as with float16
on PoCL, clang tells whether a device's compiler would accept them.
"""

import shutil
import subprocess

import tvm

from tuning.errors import TuningError

COMPILER = "clang"
_OPENCL = "opencl"
_COMMAND = (
    "-x",
    "cl",
    "-cl-std=CL1.2",
    "-D__OPENCL_VERSION__=120",
    "-Xclang",
    "-finclude-default-header",
    "-target",
    "spir64",
)
_WITHOUT_FLOAT16 = ("-Xclang", "-cl-ext=-cl_khr_fp16")
_SECONDS = 120.0


def device_source(module: tvm.runtime.Module) -> str:
    """Return the OpenCL C of all kernels that a built module holds; nothing if it holds none."""
    own = [module.inspect_source()] if module.kind == _OPENCL else []
    return "\n".join([*own, *filter(None, map(device_source, module.imports))])


def check_source(source: str, *, float16: bool) -> None:
    """Compile OpenCL C 1.2 with clang.

    Parameters
    ----------
    float16 : bool
        Whether the device calculates in float16 (cl_khr_fp16).

    Raises
    ------
    TuningError
        If clang refuses it, the message says where; if clang is missing or takes longer than two minutes.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise TuningError(
            f"checking OpenCL C needs {COMPILER}, which is not on PATH: install the package clang"
        )
    command = [compiler, *_COMMAND, *(() if float16 else _WITHOUT_FLOAT16), "-fsyntax-only", "-"]
    try:
        run = subprocess.run(command, input=source.encode(), capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise TuningError(f"{COMPILER} did not compile the kernels within {_SECONDS:g} s") from None
    if run.returncode != 0:
        raise TuningError(
            f"{COMPILER} does not compile the kernels: {_first_error(run.stderr.decode(errors='replace'))}"
        )


def _first_error(said: str) -> str:
    """Return the first error among a compiler's lines, or its last line if none is marked as one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if "error:" in line]
    return (marked or lines[-1:] or ["it says nothing"])[0]
