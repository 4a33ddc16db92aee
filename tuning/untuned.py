"""Gives a plain schedule to each function of a GPU's network that has no record.

TVM gives them none, and what is not bound to work items cannot run on a GPU.
"""

import tvm
from tvm.ir import IRModule

from tuning.searching.plain_gpu import plain_gpu_schedule

_MARK = "tirx.is_scheduled"


def schedule_untuned(module: IRModule, target: tvm.target.Target) -> IRModule:
    """Return a module with a schedule for each TIR function that has none.

    Parameters
    ----------
    module : IRModule
        Its sizes are all known.
    target : tvm.target.Target
        A GPU.
    """
    functions = {
        name: _scheduled(function, target) if _wants_schedule(function) else function
        for name, function in module.functions_items()
    }
    return IRModule(functions, attrs=module.attrs)


def is_scheduled(function: tvm.tirx.PrimFunc) -> bool:
    """Tell whether a function has a schedule."""
    return bool(function.attrs and function.attrs.get(_MARK, False))


def _wants_schedule(function: tvm.ir.BaseFunc) -> bool:
    return isinstance(function, tvm.tirx.PrimFunc) and not is_scheduled(function)


def _scheduled(function: tvm.tirx.PrimFunc, target: tvm.target.Target) -> tvm.tirx.PrimFunc:
    schedule = plain_gpu_schedule(IRModule({"main": function}), target)
    return schedule.mod["main"].with_attr(_MARK, True)
