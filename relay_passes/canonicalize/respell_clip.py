"""`maximum` and `minimum` with a number are a clip; from 0 to infinity it is a ReLU."""

from __future__ import annotations

import math

import tvm
from tvm import relax

from relay_passes.graph import Emitter, Graph, array_of, operator_of

Bounds = tuple[float, float]
RESPELT = ("maximum", "minimum", "clip", "nn.relu6")
UNBOUNDED = (-math.inf, math.inf)


@tvm.transform.module_pass(opt_level=0, name="RespellClip")
def respell_clip(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make each bound, and each pair of them, one `clip` or `nn.relu`."""
    graph = Graph(module)
    found = {var: clip for var, value in graph.value.items() if (clip := _clip(graph, value)) is not None}
    return graph.rewrite({var: lambda emit, clip=clip: _clipped(emit, *clip) for var, clip in found.items()})


def _clip(graph: Graph, value: relax.Expr) -> tuple[relax.Expr, Bounds] | None:
    """What is clipped, and between which bounds."""
    outer = _bound(value) if operator_of(value) in RESPELT else None
    if outer is None:
        return None
    x, (low, high) = outer
    inner = _bound(graph.value.get(x))
    if inner is None:
        return x, (low, high)
    within, (inner_low, inner_high) = inner
    if max(low, inner_low) > min(high, inner_high):
        return x, (low, high)
    return within, (max(low, inner_low), min(high, inner_high))


def _bound(value: relax.Expr | None) -> tuple[relax.Expr, Bounds] | None:
    operator = operator_of(value)
    if operator not in (*RESPELT, "nn.relu") or not str(value.ty.dtype).startswith("float"):
        return None
    if operator == "nn.relu":
        return value.args[0], (0.0, math.inf)
    if operator == "nn.relu6":
        return value.args[0], (0.0, 6.0)
    if operator == "clip":
        return value.args[0], tuple(float(bound.value) for bound in value.args[1:])
    x, by = value.args if array_of(value.args[0]) is None else reversed(value.args)
    number = array_of(by)
    if number is None or number.size != 1 or by.ty.ndim > value.ty.ndim:
        return None
    return x, (number.item(), math.inf) if operator == "maximum" else (-math.inf, number.item())


def _clipped(emit: Emitter, x: relax.Expr, bounds: Bounds) -> relax.Expr:
    if bounds == UNBOUNDED:
        return emit(x)
    if bounds == (0, math.inf):
        return relax.op.nn.relu(emit(x))
    return relax.op.clip(emit(x), *bounds)
