"""Turn the tensor programs that the ONNX importer emits for Clip and Pad back into Relax operators.

Passes can't see into a tensor program, so `maximum(x, low)`, `minimum(x, high)` and a constant `pad` are read
from its one store statement.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import relax, sym, tirx

from relay_passes.graph import Graph, Rewrite, operator_of

BOUNDS = {tirx.Max: relax.op.maximum, tirx.Min: relax.op.minimum}


@tvm.transform.module_pass(opt_level=0, name="RaiseTensorIR")
def raise_tensor_ir(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Replace calls of one-statement tensor programs by the Relax operator that they compute."""
    graph = Graph(module)
    raised = {}
    for var, value in graph.value.items():
        if operator_of(value) == "call_tir":
            operator = _operator(module[value.args[0]], value.args[1].fields)
            if operator is not None:
                raised[var] = operator
    return graph.rewrite(raised)


def _operator(program: tirx.PrimFunc, arguments: list[relax.Expr]) -> Rewrite | None:
    store = _only_store(program.body)
    if store is None:
        return None
    value = store.value
    if isinstance(value, tirx.Max):
        return _of_two(relax.op.maximum, value, arguments)
    if isinstance(value, tirx.Min):
        return _of_two(relax.op.minimum, value, arguments)
    widths = _pad_widths(store, arguments[0]) if _is_padding(value) else None
    fill = float(value.args[2].value) if widths is not None else None
    if widths is not None:
        return lambda emit: relax.op.nn.pad(emit(arguments[0]), widths, pad_value=fill)
    return None


def _of_two(
    build: Callable[..., relax.Expr], value: tirx.Max | tirx.Min, arguments: list[relax.Expr]
) -> Rewrite | None:
    """The operator of two tensors, or of one and a number in the program."""
    numbers = [side for side in (value.a, value.b) if isinstance(side, tirx.FloatImm)]
    if len(arguments) + len(numbers) != 2:
        return None
    constants = [relax.const(number.value, str(number.ty.dtype)) for number in numbers]
    return lambda emit: build(*(emit(argument) for argument in arguments), *constants)


def _only_store(statement: tvm.Object) -> tirx.BufferStore | None:
    while not isinstance(statement, tirx.BufferStore):
        statement = getattr(getattr(statement, "block", statement), "body", None)
        if statement is None or isinstance(statement, tirx.SeqStmt):
            return None
    return statement


def _is_padding(value: tvm.Object) -> bool:
    is_choice = isinstance(value, relax.Call) and getattr(value.op, "name", "") == "prim.if_then_else"
    return is_choice and hasattr(value.args[1], "indices") and isinstance(value.args[2], tirx.FloatImm)


def _pad_widths(store: tirx.BufferStore, source: relax.Expr) -> list[int] | None:
    """Before and after each dimension: the store's index is the load's plus what stands before."""
    analyzer = sym.Analyzer()
    before = [
        analyzer.simplify(to - origin)
        for to, origin in zip(store.indices, store.value.args[1].indices, strict=True)
    ]
    if not all(isinstance(width, tirx.IntImm) for width in before):
        return None
    sizes = zip(before, source.ty.shape, store.buffer.shape, strict=True)
    return [width for b, old, new in sizes for width in (int(b), int(new) - int(old) - int(b))]
