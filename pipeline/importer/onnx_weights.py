"""The large weights of an ONNX model as arrays beside its graph.

A graph is copied, checked, folded and corrected several times, and nothing of that looks at large weights. So
each is taken out once; an initializer of the same name, type and shape stays in the graph, without data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from pipeline.errors import ModelNotReadable

MOST_ELEMENTS_OF_A_SHAPE = 64
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

Weights = dict[str, np.ndarray]


def take_weights(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Weights]:
    """Part a model from its large floating-point weights, initializers and Constant nodes alike.

    Parameters
    ----------
    model : onnx.ModelProto
        Of no use afterwards.

    Returns
    -------
    onnx.ModelProto, dict of str to numpy.ndarray
        A model that shares no memory with `model`, and the weights by name, read-only.

    Raises
    ------
    ModelNotReadable
        If a weight does not hold as many numbers as its shape says.
    """
    graph = model.graph
    large = {tensor.name: tensor for tensor in graph.initializer if is_large(tensor.data_type, tensor.dims)}
    nodes = []
    for node in graph.node:
        tensor = _constant(node)
        if tensor is not None and is_large(tensor.data_type, tensor.dims):
            large[node.output[0]] = tensor
        else:
            nodes.append(node)
    weights = {name: _array(name, tensor) for name, tensor in large.items()}
    placeholders = [placeholder(name, tensor.data_type, tensor.dims) for name, tensor in large.items()]
    small = [tensor for tensor in graph.initializer if tensor.name not in large]
    light = onnx.ModelProto()
    replace_all(graph.node, nodes)
    replace_all(graph.initializer, [*small, *placeholders])
    light.CopyFrom(model)
    return light, weights


def with_weights_as_inputs(model: onnx.ModelProto, weights: Iterable[str]) -> onnx.ModelProto:
    """A copy of a model that is fed its large weights, after its own inputs.

    It is a model in its own right: ONNX can check it and infer its shapes, onnxruntime and TVM take it. An
    output that is an input has the input's type, as inference finds no shapes at all otherwise.
    """
    names = set(weights)
    declared = onnx.ModelProto()
    declared.CopyFrom(model)
    graph = declared.graph
    large = [tensor for tensor in graph.initializer if tensor.name in names]
    replace_all(graph.initializer, [tensor for tensor in graph.initializer if tensor.name not in names])
    replace_all(graph.input, [value for value in graph.input if value.name not in names])
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in large
    )
    types = {value.name: value.type for value in graph.input}
    for output in graph.output:
        if output.name in types:
            output.type.CopyFrom(types[output.name])
    return declared


def placeholder(name: str, data_type: int, shape: Iterable[int]) -> TensorProto:
    """The initializer that stands for a large weight in the graph."""
    return TensorProto(name=name, data_type=data_type, dims=shape)


def is_large(data_type: int, shape: Iterable[int]) -> bool:
    """Whether a tensor is a weight that stands beside the graph."""
    return data_type in FLOATS and math.prod(shape) > MOST_ELEMENTS_OF_A_SHAPE


def replace_all(field: list[onnx.NodeProto | TensorProto], items: Iterable) -> None:
    """Give a repeated field other items, which may be some of its own."""
    items = list(items)
    del field[:]
    field.extend(items)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    return next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)


def _array(name: str, tensor: TensorProto) -> np.ndarray:
    try:
        array = numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise ModelNotReadable(f"weight {name!r} cannot be read: {error}; export the model again") from None
    array.flags.writeable = False
    return array
