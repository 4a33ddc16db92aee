"""Drop what changes nothing at inference: dropout, reshapes to the same shape, pools of single elements."""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Graph, operator_of, shape_of

SAME_IF_SAME_SHAPE = (
    "reshape",
    "broadcast_to",
    "flatten",
    "squeeze",
    "expand_dims",
    "nn.adaptive_avg_pool2d",
)


@tvm.transform.module_pass(opt_level=0, name="DropIdentities")
def drop_identities(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Let the readers of an identity read its input."""
    graph = Graph(module)
    sources = {var: _source(graph, value) for var, value in graph.value.items()}
    return graph.rewrite(
        {var: lambda emit, s=source: emit(s) for var, source in sources.items() if source is not None}
    )


def _source(graph: Graph, value: relax.Expr) -> relax.Expr | None:
    """What an identity hands on, or None if the value is no identity."""
    operator = operator_of(value)
    if isinstance(value, relax.TupleGetItem):
        dropout = graph.call(value.tuple_value, "nn.dropout")
        return dropout.args[0] if dropout is not None and value.index == 0 else None
    if operator == "concat":
        parts = graph.value.get(value.args[0], value.args[0])
        return parts.fields[0] if isinstance(parts, relax.Tuple) and len(parts.fields) == 1 else None
    is_identity = (
        (operator in SAME_IF_SAME_SHAPE and shape_of(value) == shape_of(value.args[0]))
        or (operator == "permute_dims" and _keeps_order(value))
        or (operator == "astype" and value.ty.dtype == value.args[0].ty.dtype)
        or (operator == "nn.pad" and not any(int(width) for width in value.attrs.pad_width))
        or (operator in ("nn.max_pool2d", "nn.avg_pool2d") and _pools_nothing(value))
    )
    return value.args[0] if is_identity else None


def _keeps_order(value: relax.Call) -> bool:
    axes = value.attrs.axes
    return axes is not None and [int(axis) for axis in axes] == list(range(len(axes)))


def _pools_nothing(value: relax.Call) -> bool:
    attributes = value.attrs
    is_single = {int(n) for n in (*attributes.pool_size, *attributes.strides)} == {1}
    return is_single and not any(int(width) for width in attributes.padding)
