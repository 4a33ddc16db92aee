"""`minimum(maximum(x, low), high)` with scalar bounds is a clip, and from 0 to infinity a ReLU."""

from __future__ import annotations

import math

import tvm
from tvm import relax
from tvm.relax.dpl import is_const, is_op, wildcard

from relay_passes.graph import Graph, array_of


@tvm.transform.module_pass(opt_level=0, name="RespellClip")
def respell_clip(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make each such pair one `clip` or `nn.relu`."""
    graph = Graph(module)
    x, low, high = wildcard(), is_const(), is_const()
    pattern = is_op("relax.minimum")(is_op("relax.maximum")(x, low), high)
    found = {}
    for var in graph.layers:
        matched = graph.match(pattern, var)
        if matched is not None and array_of(matched[low]).size == array_of(matched[high]).size == 1:
            bounds = [float(array_of(matched[bound]).item()) for bound in (low, high)]
            found[var] = (matched[x], *bounds)
    return graph.rewrite(
        {var: lambda emit, match=match: _clipped(emit(match[0]), *match[1:]) for var, match in found.items()}
    )


def _clipped(x: relax.Expr, low: float, high: float) -> relax.Expr:
    if low == 0 and math.isinf(high):
        return relax.op.nn.relu(x)
    return relax.op.clip(x, low, high)
