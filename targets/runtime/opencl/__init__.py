"""The OpenCL runtime: C++ sources of a plug-in for TVM, which TVM loads when it is imported."""

from targets.runtime.opencl.plugin import LIBRARY, load

__all__ = ["LIBRARY", "load"]
