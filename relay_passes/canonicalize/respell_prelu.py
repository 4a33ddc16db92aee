"""`where(x > 0, x, slope * x)` is a parametric ReLU; slopes have the shape (C,)."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.relax.dpl import is_const, is_op, wildcard

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Graph, array_of, shape_of


@tvm.transform.module_pass(opt_level=0, name="RespellPReLU")
def respell_prelu(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make each such chain over the channels (axis 1) one `nn.prelu`."""
    graph = Graph(module)
    x, zero, slope = wildcard(), is_const(), is_const()
    scaled = is_op("relax.multiply")(slope, x) | is_op("relax.multiply")(x, slope)
    pattern = is_op("relax.where")(is_op("relax.greater")(x, zero), x, scaled)
    found = {}
    for var in graph.layers:
        matched = graph.match(pattern, var)
        if matched is None or array_of(matched[zero]).any():
            continue
        slopes, channels = array_of(matched[slope]), shape_of(matched[x])[1]
        if slopes.size in (1, channels) and max(slopes.shape, default=1) == slopes.size:
            found[var] = (matched[x], slopes.reshape(-1).repeat(channels // slopes.size))
    return graph.rewrite(
        {
            var: lambda emit, x=x, slopes=slopes: relax.op.nn.prelu(emit(x), constant(slopes), axis=1)
            for var, (x, slopes) in found.items()
        }
    )
