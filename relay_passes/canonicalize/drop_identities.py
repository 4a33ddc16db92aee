"""Drop what changes nothing at inference: dropout, identity reshapes, concats of one tensor."""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Graph, operator_of, shape_of

RESHAPING = ("reshape", "broadcast_to", "flatten", "squeeze", "expand_dims")


@tvm.transform.module_pass(opt_level=0, name="DropIdentities")
def drop_identities(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Let the readers of an identity read its input."""
    graph = Graph(module)
    sources = {var: _source(graph, value) for var, value in graph.value.items()}
    return graph.rewrite(
        {var: lambda emit, s=source: emit(s) for var, source in sources.items() if source is not None}
    )


def _source(graph: Graph, value: relax.Expr) -> relax.Expr | None:
    if isinstance(value, relax.TupleGetItem):
        dropout = graph.call(value.tuple_value, "nn.dropout")
        return dropout.args[0] if dropout is not None and value.index == 0 else None
    if operator_of(value) in RESHAPING and shape_of(value) == shape_of(value.args[0]):
        return value.args[0]
    if operator_of(value) == "permute_dims" and _keeps_order(value):
        return value.args[0]
    if operator_of(value) == "astype" and value.ty.dtype == value.args[0].ty.dtype:
        return value.args[0]
    return None


def _keeps_order(value: relax.Call) -> bool:
    axes = value.attrs.axes
    return axes is not None and [int(axis) for axis in axes] == list(range(len(axes)))
