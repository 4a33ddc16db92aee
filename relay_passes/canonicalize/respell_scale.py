"""Scales and shifts of channels have the tensor first and a constant (1, C, 1, 1) second.

Caffe's Scale arrives as Mul and Add with constants of any shape that broadcasts; `subtract` and `divide` by a
constant are the same two operators with another constant.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Graph, array_of, operator_of, shape_of

BUILD = {"multiply": relax.op.multiply, "add": relax.op.add}
INVERSE = {"subtract": ("add", np.negative), "divide": ("multiply", np.reciprocal)}


@tvm.transform.module_pass(opt_level=0, name="RespellScale")
def respell_scale(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Bring additions and multiplications with a constant to one order and one shape."""
    graph = Graph(module)
    found = {var: match for var, value in graph.value.items() if (match := _match(value)) is not None}
    return graph.rewrite(
        {
            var: lambda emit, x=x, operator=operator, c=c: BUILD[operator](emit(x), constant(c))
            for var, (operator, x, c) in found.items()
        }
    )


def _match(value: relax.Expr) -> tuple[str, relax.Expr, np.ndarray] | None:
    operator = operator_of(value)
    if operator not in BUILD and operator not in INVERSE:
        return None
    x, by = value.args
    if array_of(x) is not None and operator in BUILD:
        x, by = by, x
    array = array_of(by)
    if array is None or array_of(x) is not None or not np.issubdtype(array.dtype, np.floating):
        return None
    if operator in INVERSE:
        operator, invert = INVERSE[operator]
        if invert is np.reciprocal and not array.all():
            return None
        array = invert(array)
    return operator, x, per_channel(array, shape_of(x))


def per_channel(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The constant as (1, C, 1, 1) for a tensor (N, C, H, W) if it is the same everywhere in a channel."""
    full = aligned(array, len(shape))
    if len(shape) == full.ndim == 4 and full.shape in ((1, shape[1], 1, 1), (1, 1, 1, 1)):
        return np.broadcast_to(full, (1, shape[1], 1, 1))
    return array


def aligned(array: np.ndarray, rank: int) -> np.ndarray:
    """The array with axes of size 1 in front, as broadcasting to `rank` axes adds them."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
