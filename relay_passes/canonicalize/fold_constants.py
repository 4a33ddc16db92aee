"""Compute in numpy what depends on constants alone.

TVM's own `FoldConstant` compiles every expression that it folds, which takes longer than the whole import;
the importers put no more than reshapes, transposes and scalar arithmetic around weights.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from relay_passes.graph import Graph, array_of, operator_of

EVALUATE = {
    "reshape": lambda call, x: x.reshape([int(size) for size in call.ty.shape]),
    "flatten": lambda call, x: x.reshape([int(size) for size in call.ty.shape]),
    "squeeze": lambda call, x: x.reshape([int(size) for size in call.ty.shape]),
    "expand_dims": lambda call, x: x.reshape([int(size) for size in call.ty.shape]),
    "broadcast_to": lambda call, x: np.broadcast_to(x, [int(size) for size in call.ty.shape]),
    "permute_dims": lambda call, x: x.transpose(call.attrs.axes and [int(axis) for axis in call.attrs.axes]),
    "astype": lambda call, x: x.astype(str(call.ty.dtype)),
    "add": lambda call, x, y: x + y,
    "subtract": lambda call, x, y: x - y,
    "multiply": lambda call, x, y: x * y,
    "divide": lambda call, x, y: x / y,
    "maximum": lambda call, x, y: np.maximum(x, y),
    "minimum": lambda call, x, y: np.minimum(x, y),
    "sqrt": lambda call, x: np.sqrt(x),
    "rsqrt": lambda call, x: 1 / np.sqrt(x),
    "negative": lambda call, x: -x,
    "exp": lambda call, x: np.exp(x),
    "isnan": lambda call, x: np.isnan(x),
    "where": lambda call, condition, x, y: np.where(condition, x, y),
}


@tvm.transform.module_pass(opt_level=0, name="FoldConstantsInNumpy")
def fold_constants(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Replace layers that read constants alone by their value."""
    graph = Graph(module)
    known: dict[relax.Var, np.ndarray] = {}
    for var, value in graph.value.items():
        evaluate = EVALUATE.get(operator_of(value))
        if evaluate is not None:
            arguments = [
                known[arg] if arg in known else array_of(arg)
                for arg in value.args
                if not isinstance(arg, relax.ShapeExpr)
            ]
            if all(argument is not None for argument in arguments):
                known[var] = np.asarray(evaluate(value, *arguments), dtype=str(value.ty.dtype))
    return graph.rewrite({var: lambda _emit, v=value: constant(v) for var, value in known.items()})


def constant(value: np.ndarray) -> relax.Expr:
    """A Relax constant of the same shape and type; a transposed view is copied once, into its memory."""
    tensor = tvm.runtime.empty(value.shape, str(value.dtype))
    np.copyto(np.from_dlpack(tensor), value)
    return relax.const(tensor)
