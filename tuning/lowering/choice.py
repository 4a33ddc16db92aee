"""Which layers are computed by Winograd's convolution: those where its best schedule is the faster one.

A layer becomes part of a function with what is fused to it, and that function is what the database knows. So
the network is lowered as a whole in each way, with functions that are named after their layers, and the
times of both functions of a layer are looked up. A way that was not measured is not taken; if neither was,
the layer is direct.
"""

import re

import tvm
from tvm import relax, topi
from tvm.ir import Expr, IRModule
from tvm.s_tir import meta_schedule as ms

from tuning.lowering.layers import layers_of, lowered, with_winograd
from tuning.lowering.winograd import convolved
from tuning.prepare import prepare
from tuning.records.database import best_seconds

_LAYER = re.compile(r"layer(\d+)_")
_UNKNOWN = float("inf")


def forms(module: IRModule, target: tvm.target.Target) -> list[IRModule]:
    """Return the forms of a network whose functions are to be tuned: the direct one, and Winograd's.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised, its weights as constants in place.
    target : tvm.target.Target
        What it will be compiled for; Winograd's convolution is for processors.
    """
    if target.kind.name != "llvm" or not layers_of(module):
        return [module]
    return [module, with_winograd(module)]


def choose(module: IRModule, target: tvm.target.Target, database: ms.database.Database) -> IRModule:
    """Return a network with Winograd's convolution in the layers where the database knows it to be faster.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised, its weights as constants in place.
    target : tvm.target.Target
        What it will be compiled for.
    database : ms.database.Database
        Of the target.
    """
    if len(forms(module, target)) == 1:
        return module
    direct, winograd = (_seconds(lowered(module, way), target, database) for way in (_direct, _winograd))
    faster = {layer for layer, seconds in winograd.items() if seconds < direct.get(layer, _UNKNOWN)}
    return with_winograd(module, faster.__contains__)


def _seconds(module: IRModule, target: tvm.target.Target, database: ms.database.Database) -> dict[int, float]:
    """Return the best time of each layer's function that was measured."""
    found = {}
    for variable, function in prepare(module, target).functions_items():
        layer = _LAYER.search(variable.name_hint)
        if layer is not None:
            seconds = _best(function, target, database)
            if seconds is not None:
                found[int(layer[1])] = seconds
    return found


def _best(
    function: tvm.tirx.PrimFunc, target: tvm.target.Target, database: ms.database.Database
) -> float | None:
    normalize = tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")
    record = database.query_tuning_record(normalize(function), target, "main")
    return None if record is None else best_seconds(record.run_secs)


def _direct(builder: relax.BlockBuilder, call: relax.Call, layer: int) -> Expr:
    """Lower a layer as TVM does, with a name of its own."""
    attrs = call.attrs
    return builder.call_te(
        topi.nn.conv,
        inp=call.args[0],
        filt=call.args[1],
        stride=attrs.strides,
        padding=attrs.padding,
        dilation=attrs.dilation,
        groups=attrs.groups,
        data_layout=attrs.data_layout,
        kernel_layout=attrs.kernel_layout,
        out_dtype=attrs.out_dtype or None,
        primfunc_name_hint=f"layer{layer}_conv2d",
    )


def _winograd(builder: relax.BlockBuilder, call: relax.Call, layer: int) -> Expr:
    return convolved(builder, call, f"layer{layer}_winograd_conv2d")
