"""`x * sigmoid(x)` is a SiLU."""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Graph


@tvm.transform.module_pass(opt_level=0, name="RespellSiLU")
def respell_silu(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make each such product one `nn.silu`."""
    graph = Graph(module)
    found = {var: x for var in graph.layers if (x := _gated(graph, var)) is not None}
    return graph.rewrite({var: lambda emit, x=x: relax.op.nn.silu(emit(x)) for var, x in found.items()})


def _gated(graph: Graph, var: relax.Var) -> relax.Expr | None:
    product = graph.call(var, "multiply")
    if product is None:
        return None
    for x, gate in (product.args, reversed(product.args)):
        sigmoid = graph.call(gate, "sigmoid")
        if sigmoid is not None and sigmoid.args[0].same_as(x):
            return x
    return None
