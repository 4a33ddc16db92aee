"""Read an ONNX file and give every input a fixed size.

What is wrong with the file itself is told here, in one line; the graph's content is judged later.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import inliner

from pipeline.errors import ImportRefused, ModelNotReadable, ShapeNeeded
from pipeline.importer.onnx_weights import Weights, take_weights, with_weights_as_inputs

INITIALIZERS_NEED_NO_INPUT = 4
"""The version of ONNX's file format since which weights need not be listed as inputs."""

OLDEST_OPSET = 7
"""Older ones broadcast by attributes; onnxruntime does not run them."""

NO_NUMBERS = tuple(
    onnx.TensorProto.DataType.Value(name) for name in ("UNDEFINED", "STRING", "COMPLEX64", "COMPLEX128")
)

MOST_ELEMENTS = 2**28
"""Of an input: a gibibyte of single-precision numbers."""

Shape = tuple[int, ...]


def read_onnx(path: Path) -> tuple[onnx.ModelProto, Weights]:
    """Load a model with its external data, its local functions inlined, its large weights beside it.

    Raises
    ------
    ModelNotReadable
        If the file is not an ONNX model, is cut off, or its external data is missing.
    """
    try:
        model = onnx.load_model(path, format="protobuf")
    except DecodeError:
        raise ModelNotReadable(f"{path} is not an ONNX model, or is cut off: export it again") from None
    except (OSError, onnx.checker.ValidationError, ValueError) as error:
        raise ModelNotReadable(f"{path} cannot be read: {error}") from None
    if not model.graph.node or not model.graph.output:
        raise ModelNotReadable(f"{path} holds no network, or is cut off: export it again")
    _refuse_malformed(model.graph, path)
    _drop_unnamed_outputs(model.graph)
    model.ir_version = max(model.ir_version, INITIALIZERS_NEED_NO_INPUT)
    return take_weights(inliner.inline_local_functions(model) if model.functions else model)


def _refuse_malformed(graph: onnx.GraphProto, path: Path) -> None:
    """Tell what ONNX's checker lets pass."""
    for what, values in (("output", graph.output), ("weight", graph.initializer)):
        twice = [name for name, number in Counter(value.name for value in values).items() if number > 1]
        if twice:
            raise ModelNotReadable(f"{path} is not a valid ONNX model: {what} {twice[0]!r} is there twice")
    for tensor in graph.initializer:
        if tensor.data_type not in onnx.TensorProto.DataType.values():
            raise ModelNotReadable(f"{path} is not a valid ONNX model: weight {tensor.name!r} is of no type")


def _drop_unnamed_outputs(graph: onnx.GraphProto) -> None:
    """Drop the last outputs of a node if they have no name, with which onnxruntime can crash."""
    for node in graph.node:
        while node.output and not node.output[-1]:
            del node.output[-1]


def check_onnx(model: onnx.ModelProto, weights: Weights, path: Path) -> None:
    """Check the model against ONNX's own rules, save that a value of the graph must declare its rank.

    Raises
    ------
    ModelNotReadable
        With the first rule it breaks.
    """
    newest = onnx.defs.onnx_opset_version()
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelNotReadable(
            f"{path} is of opset {opset}: export it with one from {OLDEST_OPSET} to {newest}"
        )
    checked = with_weights_as_inputs(model, weights)
    for value in (*checked.graph.input, *checked.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(checked)
    except onnx.checker.ValidationError as error:
        reason = str(error).partition("==> Context")[0]
        raise ModelNotReadable(f"{path} is not a valid ONNX model: {reason}") from None


def network_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a user feeds: those of the graph without the ones that hold a default value."""
    weights = {initializer.name for initializer in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def fix_input_shapes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Write the sizes that the user gave into the model's inputs.

    A symbolic size that one of the given shapes fixes is fixed in the other inputs too.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place; inferred sizes in it are dropped, as they may contradict the new ones.
    shapes : mapping of str to tuple of int
        By input name.

    Raises
    ------
    ImportRefused
        If a shape is given for no input, or contradicts a size the model fixes.
    ShapeNeeded
        If a size is still open, naming the input and the dimension.
    """
    inputs = network_inputs(model.graph)
    if not inputs:
        raise ImportRefused("the model has no input: whatever it computes is a constant")
    names = [value.name for value in inputs]
    for name in shapes:
        if name not in names:
            raise ImportRefused(f"no input is called {name!r}: the inputs are {', '.join(names)}")
    symbols: dict[str, int] = {}
    for value in inputs:
        if value.name in shapes:
            _fix(value, shapes[value.name], symbols)
    for value in inputs:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in symbols:
                dimension.dim_value = symbols[dimension.dim_param]
    for value in inputs:
        _require_fixed(value, model.graph)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _fix(value: onnx.ValueInfoProto, shape: Shape, symbols: dict[str, int]) -> None:
    tensor = value.type.tensor_type
    if any(size < 1 for size in shape):
        raise ImportRefused(f"input {value.name!r}: sizes must be at least 1, not {_text(shape)}")
    if not tensor.HasField("shape"):
        tensor.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in shape)
        return
    dimensions = tensor.shape.dim
    fits = len(dimensions) == len(shape) and all(
        dimension.dim_value < 1 or dimension.dim_value == size
        for dimension, size in zip(dimensions, shape, strict=True)
    )
    if not fits:
        declared = "x".join(str(d.dim_value) if d.dim_value > 0 else d.dim_param or "?" for d in dimensions)
        raise ImportRefused(
            f"input {value.name!r} is {declared} in the model, which {_text(shape)} contradicts"
        )
    for dimension, size in zip(dimensions, shape, strict=True):
        if dimension.dim_param:
            symbols[dimension.dim_param] = size
        dimension.dim_value = size


def _require_fixed(value: onnx.ValueInfoProto, graph: onnx.GraphProto) -> None:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type in NO_NUMBERS:
        raise ImportRefused(f"input {value.name!r} is not a tensor of numbers")
    if not tensor.HasField("shape"):
        raise ShapeNeeded(
            f"input {value.name!r} has no shape: give --input-shape {value.name}:1x3x224x224, with its sizes"
        )
    for axis, dimension in enumerate(tensor.shape.dim):
        if dimension.dim_value < 1:
            symbol = f" ({dimension.dim_param!r})" if dimension.dim_param else ""
            raise ShapeNeeded(
                f"input {value.name!r} has no fixed size for dimension {axis}{symbol}{_padded_by(graph)}:"
                f" give --input-shape {value.name}:{_example(tensor.shape.dim)}, with the size you want"
            )
    shape = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    if math.prod(shape) > MOST_ELEMENTS:
        raise ImportRefused(f"input {value.name!r} of {_text(shape)} has more than {MOST_ELEMENTS} elements")


def _padded_by(graph: onnx.GraphProto) -> str:
    """Name a layer whose padding depends on the size."""
    for node in graph.node:
        if any(a.name == "auto_pad" and a.s.startswith(b"SAME") for a in node.attribute):
            return f", on which the padding of {describe(node)} depends"
    return ""


def _example(dimensions: Iterator[onnx.TensorShapeProto.Dimension]) -> str:
    usual = {0: 1, 1: 3}
    sizes = (d.dim_value if d.dim_value > 0 else usual.get(axis, 224) for axis, d in enumerate(dimensions))
    return _text(tuple(sizes))


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def set_attributes(node: onnx.NodeProto, **values: Any) -> None:
    """Set attributes of a node; None removes one."""
    kept = [attribute for attribute in node.attribute if attribute.name not in values]
    new = [onnx.helper.make_attribute(name, value) for name, value in values.items() if value is not None]
    del node.attribute[:]
    node.attribute.extend((*kept, *new))


def describe(node: onnx.NodeProto) -> str:
    """An operator with the name its user knows: the node's, or that of its first output."""
    return f"{node.op_type} {node.name or next(iter(node.output), '?')!r}"
