"""Batch norm at inference is a scale and a shift of each channel.

y = gamma * (x - mean) / sqrt(variance + epsilon) + beta = x * scale + (beta - mean * scale)
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Emitter, Graph, array_of


@tvm.transform.module_pass(opt_level=0, name="RespellBatchNorm")
def respell_batch_norm(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make each batch norm with constant statistics `multiply` then `add`."""
    graph = Graph(module)
    found = {}
    for var, value in graph.value.items():
        if isinstance(value, relax.TupleGetItem) and value.index == 0:
            norm = graph.call(value.tuple_value, "nn.batch_norm")
            if norm is not None and _uses_constant_statistics(norm):
                found[var] = (var.name, norm)
    return graph.rewrite({var: lambda emit, args=args: _scaled(emit, *args) for var, args in found.items()})


def _uses_constant_statistics(norm: relax.Call) -> bool:
    is_over_channels = int(norm.attrs.axis) % norm.args[0].ty.ndim == 1
    return (
        is_over_channels and not norm.attrs.training and all(array_of(a) is not None for a in norm.args[1:])
    )


def _scaled(emit: Emitter, name: str, norm: relax.Call) -> relax.Expr:
    gamma, beta, mean, variance = (array_of(arg).astype("float64") for arg in norm.args[1:])
    scale = (gamma if norm.attrs.scale else 1) / np.sqrt(variance + float(norm.attrs.epsilon))
    shift = (beta if norm.attrs.center else 0) - mean * scale
    x = emit(norm.args[0])
    shape = [1, -1] + [1] * (x.ty.ndim - 2)
    dtype = str(x.ty.dtype)
    scaled = emit.layer(name, relax.op.multiply(x, constant(scale.reshape(shape).astype(dtype))))
    return emit.layer(f"{name}.shift", relax.op.add(scaled, constant(shift.reshape(shape).astype(dtype))))
