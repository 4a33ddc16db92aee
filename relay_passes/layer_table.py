"""What each layer is and costs.

Multiply-adds of a convolution are outputs x inputs of one output (KH * KW * I / groups); of a dense layer
M * K * N. Parameters are the elements of the constants that a layer reads. Other layers count no multiply-adds.
"""

from __future__ import annotations

import math

import tvm
from pydantic import BaseModel, ConfigDict
from tvm import relax

from relay_passes.graph import Graph, array_of, operator_of, shape_of

TENSOR_LAYERS = ("nn.conv1d", "nn.conv2d", "nn.conv2d_transpose", "matmul")
BYTES = {"float32": 4, "int64": 8, "float64": 8, "int32": 4, "float16": 2, "bool": 1}


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
    """Totals of several layers."""

    model_config = ConfigDict(frozen=True)

    layers: int
    macs: int
    parameters: int
    activation_bytes: int


def layer_table(module: tvm.IRModule) -> tuple[Layer, ...]:
    """The layers of a canonical module, in the order of computation."""
    graph = Graph(module)
    tensors = (var for var in graph.layers if isinstance(var.ty, relax.TensorType))
    return tuple(_layer(graph, var) for var in tensors)


def cost(module: tvm.IRModule) -> Cost:
    """Totals of a canonical module."""
    table = layer_table(module)
    return Cost(
        layers=len(table),
        macs=sum(layer.macs for layer in table),
        parameters=sum(layer.parameters for layer in table),
        activation_bytes=sum(layer.output_bytes for layer in table),
    )


def _layer(graph: Graph, var: relax.Var) -> Layer:
    value = graph.value[var]
    composite = graph.composite(var)
    if composite is not None:
        operator = str(composite.attrs["Composite"]).rpartition(".")[2]
    else:
        operator = operator_of(value) or "tuple"
    arrays = [array_of(argument) for argument in getattr(value, "args", ())]
    return Layer(
        name=var.name,
        operator=operator.removeprefix("nn."),
        tensor=operator in TENSOR_LAYERS,
        output_shape=shape_of(var),
        macs=_macs(operator, value),
        parameters=sum(array.size for array in arrays if array is not None),
        output_bytes=math.prod(shape_of(var)) * BYTES.get(str(var.ty.dtype), 4),
    )


def _macs(operator: str, value: relax.Expr) -> int:
    if operator == "nn.conv2d_transpose":
        return math.prod(shape_of(value.args[0])) * math.prod(shape_of(value.args[1])[1:])
    if operator in ("nn.conv1d", "nn.conv2d"):
        return math.prod(shape_of(value)) * math.prod(shape_of(value.args[1])[1:])
    if operator == "matmul":
        return math.prod(shape_of(value)) * shape_of(value.args[0])[-1]
    return 0
