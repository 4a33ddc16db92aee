"""The plug-in for this machine, built when deeprebirth is installed if OpenCL's headers are there."""

import ctypes
from pathlib import Path

NAME = "libtvm_runtime_opencl.so"
LIBRARY = Path(__file__).with_name(NAME)


def is_built() -> bool:
    """Tell whether the plug-in is there."""
    return LIBRARY.is_file()


def load() -> None:
    """Give TVM its OpenCL runtime, unless it has one or ours was not built; OpenCL itself is not started.

    TVM calls this through the entry point group ``tvm.backends``.
    """
    import tvm_ffi

    if is_built() and tvm_ffi.get_global_func("device_api.opencl", allow_missing=True) is None:
        ctypes.CDLL(str(LIBRARY))
