"""Which layers are computed by Winograd's convolution: those where its best schedule is the faster one.

A layer becomes part of a function with what is fused to it, and that function is what the database knows. So
the network is prepared as a whole in both forms. In each, a layer's function is the one that is called with
its weights. A way that was not measured is not taken; if neither was, the layer is direct.
"""

import math

import tvm
from tvm.ir import GenericConst, IRModule
from tvm.s_tir import meta_schedule as ms

from tuning.lowering.network import Lowered, calls_of_functions, lower
from tuning.prepare import prepare
from tuning.records.database import best_seconds

HANDICAP = 1.2
"""By how much Winograd's convolution has to be faster when measured alone.

Its weights take four times the memory; measured alone they lie in the cache, and in a network they may not.
"""


def forms(module: IRModule, target: tvm.target.Target, exact_math: bool = False) -> list[Lowered]:
    """Return the forms of a network whose functions are to be tuned: the direct one, and Winograd's.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised, its weights as constants in place.
    target : tvm.target.Target
        What it will be compiled for; a GPU has the network as it is.
    exact_math : bool
        Whether the direct form is the only one.
    """
    if target.kind.name != "llvm":
        return [Lowered(module, ())]
    direct = lower(module, target)
    if exact_math or not direct.weights:
        return [direct]
    return [direct, lower(module, target, lambda _: True)]


def choose(
    module: IRModule, target: tvm.target.Target, database: ms.database.Database, exact_math: bool = False
) -> IRModule:
    """Return a network with Winograd's convolution in the layers where the database knows it to be faster.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised, its weights as constants in place.
    target : tvm.target.Target
        What it will be compiled for.
    database : ms.database.Database
        Of the target.
    exact_math : bool
        Whether all layers are direct nevertheless.
    """
    both = forms(module, target, exact_math)
    faster = {
        layer
        for layer, (direct, winograd) in rivals(both, target).items()
        if HANDICAP * _best(winograd, target, database) < _best(direct, target, database)
    }
    return lower(module, target, faster.__contains__).module if faster else both[0].module


def rivals(both: list[Lowered], target: tvm.target.Target) -> dict[int, tuple[IRModule, IRModule]]:
    """Return the direct function and Winograd's, as the database knows them, by the numbers of the layers.

    Parameters
    ----------
    both : list of Lowered
        What `forms` gave; of one form there are none.
    target : tvm.target.Target
        What it will be compiled for.
    """
    if len(both) == 1:
        return {}
    weights = [[weight.value.data_ptr() for weight in form.weights] for form in both]
    direct, winograd = (_functions(form.module, target) for form in both)
    return {
        layer: (direct[one], winograd[other])
        for layer, (one, other) in enumerate(zip(*weights, strict=True))
        if one in direct and other in winograd
    }


def _functions(module: IRModule, target: tvm.target.Target) -> dict[int, IRModule]:
    """Return functions by the constants that they are called with."""
    normalize = tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")
    prepared = prepare(module, target)
    return {
        constant: normalize(prepared[call.args[0]])
        for call in calls_of_functions(prepared)
        for constant in _constants(call)
    }


def _constants(call: tvm.ir.Call) -> list[int]:
    """Return the addresses of a call's constants: passes hand these on as they are."""
    arguments = [field for each in call.args for field in getattr(each, "fields", [each])]
    return [each.value.data_ptr() for each in arguments if isinstance(each, GenericConst)]


def _best(function: IRModule, target: tvm.target.Target, database: ms.database.Database) -> float:
    """Return the best time of a function, infinity if there is none."""
    record = database.query_tuning_record(function, target, "main")
    seconds = None if record is None else best_seconds(record.run_secs)
    return math.inf if seconds is None else seconds
