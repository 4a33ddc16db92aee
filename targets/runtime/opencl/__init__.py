"""The OpenCL runtime: C++ sources of a plug-in for TVM, which TVM loads when it is imported."""

from targets.runtime.opencl.devices import DEVICE_VARIABLE, Listing, NoDevice, OpenCLDevice, listing
from targets.runtime.opencl.plugin import NAME, is_built, load

__all__ = ["DEVICE_VARIABLE", "NAME", "Listing", "NoDevice", "OpenCLDevice", "is_built", "listing", "load"]
