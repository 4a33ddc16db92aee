"""TVM's tensor intrinsics, without those for GPUs and DSPs.

MetaSchedule needs the intrinsics of the processor to make design spaces. ``import tvm.s_tir.tensor_intrin``
also makes those for cuda, rocm, hexagon and metal, which takes 15 to 20 seconds; upstream's ``TuneContext``
and build function import it each time. Putting the package into ``sys.modules`` with its path but without
running its ``__init__`` lets its CPU modules be imported alone (about a second), and turns every later
import of it into nothing. Design spaces for CPUs come out the same.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec

_PACKAGE = "tvm.s_tir.tensor_intrin"
_CPU_MODULES = ("x86", "arm_cpu")


def import_cpu_intrinsics() -> None:
    """Register the tensor intrinsics of x86 and ARM processors; does nothing the second time."""
    if _PACKAGE not in sys.modules:
        location = find_spec(_PACKAGE).submodule_search_locations
        spec = ModuleSpec(_PACKAGE, loader=None, is_package=True)
        spec.submodule_search_locations = location
        sys.modules[_PACKAGE] = module_from_spec(spec)
    for name in _CPU_MODULES:
        importlib.import_module(f"{_PACKAGE}.{name}")
