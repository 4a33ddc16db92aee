"""ONNX `Sum` arrives as a stack that is summed over its new axis; it is a row of additions."""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Emitter, Graph, shape_of


@tvm.transform.module_pass(opt_level=0, name="RespellSum")
def respell_sum(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make each stacked sum of tensors of one shape a row of `add`."""
    graph = Graph(module)
    found = {var: terms for var in graph.layers if (terms := _terms(graph, var)) is not None}
    return graph.rewrite(
        {
            var: lambda emit, var=var, terms=terms: _added(emit, var.name, terms)
            for var, terms in found.items()
        }
    )


def _terms(graph: Graph, var: relax.Var) -> list[relax.Expr] | None:
    total = graph.call(var, "sum")
    stack = graph.call(total.args[0], "stack") if total is not None else None
    if stack is None or total.attrs.axis is None or total.attrs.keepdims:
        return None
    axis = 0 if stack.attrs.axis is None else int(stack.attrs.axis) % stack.ty.ndim
    if [int(a) % stack.ty.ndim for a in total.attrs.axis] != [axis]:
        return None
    stacked = stack.args[0]
    terms = list(graph.value.get(stacked, stacked).fields)
    return terms if all(shape_of(term) == shape_of(total) for term in terms) else None


def _added(emit: Emitter, name: str, terms: list[relax.Expr]) -> relax.Expr:
    total, *rest = (emit(term) for term in terms)
    for term in rest[:-1]:
        total = emit.layer(f"{name}.add", relax.op.add(total, term))
    return relax.op.add(total, rest[-1]) if rest else total
