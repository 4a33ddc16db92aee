"""What each layer is and costs.

Multiply-adds of a convolution are outputs x inputs of one output (KH * KW * I / groups); of a transposed one
inputs x outputs of one input; of a dense layer M * K * N. Parameters are the elements of the constants that a
layer reads, single numbers aside. Other layers count no multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import tvm
from pydantic import BaseModel, ConfigDict
from tvm import relax

from relay_passes.graph import Constant, Graph, operator_of, shape_of

CONVOLUTIONS = tuple(f"nn.conv{rank}d" for rank in (1, 2, 3))
TRANSPOSED_CONVOLUTIONS = tuple(f"{name}_transpose" for name in CONVOLUTIONS)
TENSOR_LAYERS = (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS, "matmul")


class Layer(BaseModel):
    """One row of the layer table. `output_bytes` is the size of its result."""

    model_config = ConfigDict(frozen=True)

    name: str
    operator: str
    tensor: bool
    output_shape: tuple[int, ...]
    macs: int
    parameters: int
    output_bytes: int


class Cost(BaseModel):
    """Totals of several layers, or by how much they change."""

    model_config = ConfigDict(frozen=True)

    layers: int = 0
    macs: int = 0
    parameters: int = 0
    activation_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{field: getattr(self, field) + getattr(other, field) for field in Cost.model_fields})

    def __sub__(self, other: Cost) -> Cost:
        return Cost(**{field: getattr(self, field) - getattr(other, field) for field in Cost.model_fields})


def layer_table(module: tvm.IRModule) -> tuple[Layer, ...]:
    """The layers of a canonical module, in the order of computation."""
    graph = Graph(module)
    return layers_of(graph, {var: graph.value[var] for var in graph.layers})


def cost(module: tvm.IRModule) -> Cost:
    """Totals of a canonical module."""
    return total(layer_table(module))


def layers_of(graph: Graph, values: Mapping[relax.Var, relax.Expr]) -> tuple[Layer, ...]:
    """Rows for some bindings; those of tuples compute nothing and have none."""
    return tuple(
        _layer(graph, var, value) for var, value in values.items() if isinstance(var.ty, relax.TensorType)
    )


def total(layers: Iterable[Layer]) -> Cost:
    """Totals of some rows."""
    rows = tuple(layers)
    return Cost(
        layers=len(rows),
        macs=sum(row.macs for row in rows),
        parameters=sum(row.parameters for row in rows),
        activation_bytes=sum(row.output_bytes for row in rows),
    )


def _layer(graph: Graph, var: relax.Var, value: relax.Expr) -> Layer:
    shape = shape_of(var)
    return Layer(
        name=var.name,
        operator=graph.kind(value),
        tensor=operator_of(value) in TENSOR_LAYERS,
        output_shape=shape,
        macs=_macs(value, shape),
        parameters=_parameters(value),
        output_bytes=math.prod(shape) * np.dtype(str(var.ty.dtype)).itemsize,
    )


def _parameters(value: relax.Expr) -> int:
    constants = [arg for arg in getattr(value, "args", ()) if isinstance(arg, Constant)]
    return sum(math.prod(shape_of(constant)) for constant in constants if constant.ty.ndim)


def _macs(value: relax.Expr, shape: tuple[int, ...]) -> int:
    operator = operator_of(value)
    if operator in CONVOLUTIONS:
        return math.prod(shape) * math.prod(shape_of(value.args[1])[1:])
    if operator in TRANSPOSED_CONVOLUTIONS:
        return math.prod(shape_of(value.args[0])) * math.prod(shape_of(value.args[1])[1:])
    if operator == "matmul":
        return math.prod(shape) * shape_of(value.args[0])[-1]
    return 0
