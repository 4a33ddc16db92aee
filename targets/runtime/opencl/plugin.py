"""Loads the plug-in into TVM. It is built when deeprebirth is installed, if OpenCL's headers are there."""

import ctypes
from pathlib import Path

LIBRARY = Path(__file__).with_name("libtvm_runtime_opencl.so")
"""The plug-in for this machine."""


def load() -> None:
    """Give TVM its OpenCL runtime, unless it has one or ours was not built; OpenCL itself is not started.

    TVM calls this through the entry point group ``tvm.backends``.
    """
    import tvm_ffi

    if LIBRARY.exists() and tvm_ffi.get_global_func("device_api.opencl", allow_missing=True) is None:
        ctypes.CDLL(str(LIBRARY))
