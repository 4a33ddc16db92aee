"""A parametric ReLU is `nn.prelu` over axis 1 with a slope for each channel, shaped (C,).

torch arrives as `where(x > 0, x, slope * x)`; ONNX arrives as `nn.prelu`, which may have a single slope over
any axis.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax.dpl import is_const, is_op, wildcard

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.canonicalize.respell_scale import aligned
from relay_passes.graph import Emitter, Graph, array_of, shape_of

Match = tuple[relax.Expr, np.ndarray]
"""What is read, and the slopes (C,)."""


@tvm.transform.module_pass(opt_level=0, name="RespellPReLU")
def respell_prelu(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Bring parametric ReLUs over the channels to one spelling."""
    graph = Graph(module)
    found = {}
    for var in graph.layers:
        match = _operator(graph, var) or _chain(graph, var)
        if match is not None:
            found[var] = match
    return graph.rewrite({var: lambda emit, args=args: _emit(emit, *args) for var, args in found.items()})


def _emit(emit: Emitter, x: relax.Expr, slopes: np.ndarray) -> relax.Expr:
    return relax.op.nn.prelu(emit(x), constant(slopes), axis=1)


def _operator(graph: Graph, var: relax.Var) -> Match | None:
    call = graph.call(var, "nn.prelu")
    slopes = array_of(call.args[1]) if call is not None else None
    if slopes is None or call.ty.ndim < 2:
        return None
    channels = shape_of(call)[1]
    if slopes.size == 1:
        return call.args[0], slopes.repeat(channels)
    return (call.args[0], slopes) if int(call.attrs.axis) % call.ty.ndim == 1 else None


def _chain(graph: Graph, var: relax.Var) -> Match | None:
    if graph.call(var, "where") is None:
        return None
    x, zero, slope = wildcard(), is_const(), is_const()
    scaled = is_op("relax.multiply")(slope, x) | is_op("relax.multiply")(x, slope)
    matched = graph.match(is_op("relax.where")(is_op("relax.greater")(x, zero), x, scaled), var)
    if matched is None or array_of(matched[zero]).any() or matched[x].ty.ndim < 2:
        return None
    shape = shape_of(matched[x])
    slopes = aligned(array_of(matched[slope]), len(shape))
    by_channel = (1, shape[1], *(1,) * (len(shape) - 2))
    if slopes.shape not in (by_channel, (1,) * len(shape)):
        return None
    return matched[x], np.broadcast_to(slopes, by_channel).reshape(-1)
