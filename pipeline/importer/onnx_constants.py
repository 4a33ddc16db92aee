"""Compute in numpy what an ONNX graph computes from constants and fixed sizes alone.

Weights made by ConstantOfShape or Constant nodes become initializers, and the shape arithmetic that exporters
write around Reshape and Flatten (Shape, Gather, Concat) disappears once the input has a fixed size.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from pipeline.errors import ImportRefused
from pipeline.importer.onnx_ceil import POOLS, settle_ceil
from pipeline.importer.onnx_evaluate import evaluate_node
from pipeline.importer.onnx_file import attributes, describe, network_inputs
from pipeline.importer.onnx_weights import (
    MOST_ELEMENTS_OF_A_SHAPE,
    Weights,
    is_large,
    placeholder,
    replace_all,
    with_weights_as_inputs,
)

MOST_ELEMENTS = 2**28
REARRANGING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

Shapes = dict[str, tuple[int, ...]]


def fold_constants(model: onnx.ModelProto, weights: Weights) -> Shapes:
    """Replace constant nodes by initializers until nothing more can be replaced.

    Parameters
    ----------
    model : onnx.ModelProto
        With fixed input sizes; changed in place.
    weights : dict of str to numpy.ndarray
        Its large weights; changed in place, new ones come and unused ones go.

    Returns
    -------
    dict of str to tuple of int
        The static shapes of the values of the graph that remains; a value whose shape is known only at run
        time is not in it.
    """
    while True:
        _refuse_endless_ranges(model.graph, constants(model.graph, weights))
        shapes = _settled_shapes(model, weights)
        if not _fold_once(model, weights, shapes):
            _tidy(model.graph, weights)
            return shapes


def data_types(model: onnx.ModelProto, weights: Weights) -> dict[str, int]:
    """Infer the ONNX data types of all values."""
    return {value.name: value.type.tensor_type.elem_type for value in _inferred(model, weights)}


def static_shapes(model: onnx.ModelProto, weights: Weights) -> Shapes:
    """Infer the shapes of all values, those that are fixed."""
    shapes = {initializer.name: tuple(initializer.dims) for initializer in model.graph.initializer}
    for value in _inferred(model, weights):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(
            dimension.HasField("dim_value") for dimension in tensor.shape.dim
        ):
            shapes[value.name] = tuple(dimension.dim_value for dimension in tensor.shape.dim)
    return shapes


def _inferred(model: onnx.ModelProto, weights: Weights) -> list[onnx.ValueInfoProto]:
    declared = with_weights_as_inputs(model, weights)
    graph = onnx.shape_inference.infer_shapes(declared, data_prop=True).graph
    return [*graph.input, *graph.value_info, *graph.output]


def _settled_shapes(model: onnx.ModelProto, weights: Weights) -> Shapes:
    """The static shapes after every pool with `ceil_mode` whose input has one is settled, first to last."""
    kept: set[str] = set()
    while True:
        shapes = static_shapes(model, weights)
        for node in model.graph.node:
            open_ceil = node.op_type in POOLS and attributes(node).get("ceil_mode", 0)
            if open_ceil and node.input[0] in shapes and node.output[0] not in kept:
                if settle_ceil(node, shapes[node.input[0]]):
                    break
                kept.add(node.output[0])
        else:
            return shapes


def constants(graph: onnx.GraphProto, weights: Weights) -> dict[str, np.ndarray]:
    """The initializers and the large weights as numpy arrays."""
    small = [initializer for initializer in graph.initializer if initializer.name not in weights]
    return {**weights, **{initializer.name: numpy_helper.to_array(initializer) for initializer in small}}


def _refuse_endless_ranges(graph: onnx.GraphProto, known: dict[str, np.ndarray]) -> None:
    """ONNX's inference writes ranges out, however long they are."""
    for node in graph.node:
        if node.op_type == "Range" and all(name in known for name in node.input):
            start, limit, step = (float(known[name]) for name in node.input)
            if not step or (limit - start) / step > MOST_ELEMENTS:
                raise ImportRefused(
                    f"{describe(node)} makes a constant of more than {MOST_ELEMENTS} elements"
                )


def _fold_once(model: onnx.ModelProto, weights: Weights, shapes: Shapes) -> bool:
    graph = model.graph
    known = constants(graph, weights)
    folded: dict[str, np.ndarray] = {}
    kept = []
    for node in graph.node:
        results = _evaluate(node, known, shapes, model)
        if results is None:
            kept.append(node)
        else:
            folded.update(results)
            known.update(results)
    if not folded:
        return False
    replace_all(graph.node, kept)
    for name, array in folded.items():
        data_type = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if is_large(data_type, array.shape):
            graph.initializer.append(placeholder(name, data_type, array.shape))
            weights[name] = array
        else:
            graph.initializer.append(numpy_helper.from_array(array, name))
    return True


def _evaluate(
    node: onnx.NodeProto, known: dict[str, np.ndarray], shapes: Shapes, model: onnx.ModelProto
) -> dict[str, np.ndarray] | None:
    """The outputs of a node that reads constants alone, else None."""
    if node.op_type == "Shape" and node.input[0] in shapes:
        return {node.output[0]: _shape_value(node, shapes[node.input[0]])}
    if node.op_type == "Size" and node.input[0] in shapes:
        return {node.output[0]: np.array(math.prod(shapes[node.input[0]]), np.int64)}
    if not all(name in known for name in node.input if name) or any(a.HasField("g") for a in node.attribute):
        return None
    if _rearranges_weight(node, known):
        return None
    if any(math.prod(shapes.get(name, ())) > MOST_ELEMENTS for name in node.output):
        raise _too_large(node)
    return evaluate_node(node, known, model.opset_import)


def _too_large(node: onnx.NodeProto) -> ImportRefused:
    return ImportRefused(f"{describe(node)} makes a constant of more than {MOST_ELEMENTS} elements")


def _rearranges_weight(node: onnx.NodeProto, known: dict[str, np.ndarray]) -> bool:
    """Whether a node only reshapes or transposes a weight, which is left, as the layer is called after it."""
    return node.op_type in REARRANGING and known[node.input[0]].size > MOST_ELEMENTS_OF_A_SHAPE


def _shape_value(node: onnx.NodeProto, shape: tuple[int, ...]) -> np.ndarray:
    limits = attributes(node)
    return np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], np.int64)


def _tidy(graph: onnx.GraphProto, weights: Weights) -> None:
    """Drop unused initializers, and initializers from the inputs, where old files list them too."""
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for node in graph.node:
        used |= _names_in_subgraphs(node)
    replace_all(graph.input, network_inputs(graph))
    replace_all(graph.initializer, [each for each in graph.initializer if each.name in used])
    for name in weights.keys() - used:
        del weights[name]


def _names_in_subgraphs(node: onnx.NodeProto) -> set[str]:
    graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {name for graph in graphs for inner in graph.node for name in inner.input} | {
        name for graph in graphs for inner in graph.node for name in _names_in_subgraphs(inner)
    }
