"""What TVM's ONNX importer gets wrong: corrected in the ONNX graph, or refused by name.

`unsupported` names every operator that TVM cannot import. `correct` then goes over the nodes; a rule for an
operator changes its node into a form that TVM imports right, or gives the reason for which it is refused. All
refusals are told at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper
from tvm.relax.frontend.onnx import onnx_frontend

from pipeline.errors import ImportRefused
from pipeline.importer.onnx_constants import Shapes
from pipeline.importer.onnx_file import attributes, describe, set_attributes

HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
SEVERAL_KINDS_OF_VALUE = ("Optional", "Sequence")


def refuse_unsupported(model: onnx.ModelProto) -> None:
    """Name all operators that cannot be imported, with their nodes, also those in subgraphs.

    Raises
    ------
    ImportRefused
    """
    importable = onnx_frontend._get_convert_map().keys() | {"Constant"}
    found: dict[str, list[str]] = {}
    for node in _all_nodes(model.graph):
        foreign = node.domain not in ("", "ai.onnx")
        if foreign or node.op_type not in importable or _is_container(node.op_type):
            operator = f"{node.domain}.{node.op_type}" if foreign else node.op_type
            found.setdefault(operator, []).append(node.name or next(iter(node.output), "?"))
    if found:
        listed = "; ".join(f"{operator} ({', '.join(nodes)})" for operator, nodes in sorted(found.items()))
        raise ImportRefused(f"operators that cannot be imported: {listed}")
    sparse = [tensor.values.name for tensor in model.graph.sparse_initializer]
    sparse += [node.output[0] for node in _all_nodes(model.graph) if "sparse_value" in attributes(node)]
    if sparse:
        raise ImportRefused(f"sparse weights cannot be imported: {', '.join(sparse)}; export them dense")


def refuse_half_precision(model: onnx.ModelProto, types: Mapping[str, int]) -> None:
    """Name the first layer that computes in half precision, in which importing cannot be checked.

    Parameters
    ----------
    model : onnx.ModelProto
        Folded: weights that are kept in half precision and cast to single precision are none of these.
    types : mapping of str to int
        The ONNX data types of the values of the graph.

    Raises
    ------
    ImportRefused
    """
    half = [node for node in model.graph.node if any(types.get(name) in HALF for name in node.output)]
    if half:
        further = f" and {len(half) - 1} more" if len(half) > 1 else ""
        raise ImportRefused(f"half precision in {describe(half[0])}{further}: export the model in float32")


def correct(model: onnx.ModelProto, shapes: Shapes, constants: dict[str, np.ndarray]) -> None:
    """Apply the rules to all nodes.

    Parameters
    ----------
    model : onnx.ModelProto
        Folded, with fixed input sizes; changed in place.
    shapes, constants : dict
        Of the values of the graph.

    Raises
    ------
    ImportRefused
        Naming every node that is refused, and why.
    """
    graph = _Facts(model.graph, shapes, constants)
    refusals = []
    for node in model.graph.node:
        reason = RULES[node.op_type](node, graph) if node.op_type in RULES else None
        if reason:
            refusals.append(f"{describe(node)}: {reason}")
    if refusals:
        raise ImportRefused("; ".join(refusals))


@dataclass(frozen=True)
class _Facts:
    graph: onnx.GraphProto
    shapes: Shapes
    constants: dict[str, np.ndarray]

    @cached_property
    def used(self) -> set[str]:
        read = {name for node in _all_nodes(self.graph) for name in node.input}
        return read | {output.name for output in self.graph.output}


Rule = Callable[[onnx.NodeProto, _Facts], str | None]


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_nodes(subgraph)


def _is_container(operator: str) -> bool:
    return any(kind in operator for kind in SEVERAL_KINDS_OF_VALUE)


def _explicit_padding(node: onnx.NodeProto, facts: _Facts, kernel: Sequence[int]) -> str | None:
    """Replace `auto_pad`: SAME_* keeps ceil(size / stride) places, the odd element goes to the named side."""
    given = attributes(node)
    mode = given.get("auto_pad", b"NOTSET")
    if mode == b"VALID":
        set_attributes(node, auto_pad=None, pads=[0] * (2 * len(kernel)))
    if mode not in (b"SAME_UPPER", b"SAME_LOWER"):
        return None
    shape = facts.shapes.get(node.input[0])
    if shape is None:
        return "its padding depends on a size that is known only at run time"
    ones = [1] * len(kernel)
    strides, dilations = given.get("strides", ones), given.get("dilations", ones)
    before, after = [], []
    for size, window, stride, dilation in zip(shape[2:], kernel, strides, dilations, strict=True):
        reach = (window - 1) * dilation + 1
        total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == b"SAME_UPPER" else large)
        after.append(large if mode == b"SAME_UPPER" else small)
    set_attributes(node, auto_pad=None, pads=before + after, ceil_mode=None)
    return None


def _pool(node: onnx.NodeProto, facts: _Facts) -> str | None:
    if len(node.output) > 1 and node.output[1] in facts.used:
        return "its second output, the indices, is used, which TVM does not compute"
    del node.output[1:]
    given = attributes(node)
    if given.get("auto_pad", b"").startswith(b"SAME") and max(given.get("dilations", [1])) > 1:
        return "onnxruntime pads SAME without regard to the dilation: export it with explicit pads"
    return _explicit_padding(node, facts, given["kernel_shape"])


def _convolution(node: onnx.NodeProto, facts: _Facts) -> str | None:
    kernel = facts.shapes.get(node.input[1])
    if kernel is None:
        return "the size of its kernel is known only at run time"
    given = attributes(node)
    if given.get("auto_pad", b"").startswith(b"SAME") and max(given.get("dilations", [1])) > 1:
        return "onnxruntime does not run SAME padding with dilation: export it with explicit pads"
    return _explicit_padding(node, facts, kernel[2:])


def _transposed_convolution(node: onnx.NodeProto, facts: _Facts) -> str | None:
    """Turn `output_shape` and `auto_pad` into the padding that gives that size."""
    given = attributes(node)
    mode = given.get("auto_pad", b"NOTSET")
    wanted = given.get("output_shape")
    if mode == b"VALID":
        set_attributes(node, auto_pad=None, pads=None)
    if mode not in (b"SAME_UPPER", b"SAME_LOWER") and wanted is None:
        return None
    shape, kernel = facts.shapes.get(node.input[0]), facts.shapes.get(node.input[1])
    if shape is None or kernel is None:
        return "its padding depends on a size that is known only at run time"
    rank = len(shape) - 2
    ones, zeros = [1] * rank, [0] * rank
    strides, dilations = given.get("strides", ones), given.get("dilations", ones)
    extras = given.get("output_padding", zeros)
    targets = wanted[-rank:] if wanted else [size * s for size, s in zip(shape[2:], strides, strict=True)]
    before, after = [], []
    for size, target, window, stride, dilation, extra in zip(
        shape[2:], targets, kernel[2:], strides, dilations, extras, strict=True
    ):
        total = (size - 1) * stride + extra + (window - 1) * dilation + 1 - target
        if total < 0:
            return f"its output size {target} is larger than its input and kernel give"
        small, large = total // 2, total - total // 2
        before.append(small if mode == b"SAME_UPPER" else large)
        after.append(large if mode == b"SAME_UPPER" else small)
    set_attributes(node, auto_pad=None, output_shape=None, pads=before + after)
    return None


def _local_response_norm(node: onnx.NodeProto, facts: _Facts) -> str | None:
    size = attributes(node)["size"]
    return f"LRN over an even number of channels ({size}) is not supported" if size % 2 == 0 else None


def _batch_norm(node: onnx.NodeProto, facts: _Facts) -> str | None:
    further = [name for name in node.output[1:] if name]
    if used := [name for name in further if name in facts.used]:
        return f"its output {used[0]!r}, a batch statistic, is used: export the model in eval mode"
    if not attributes(node).get("spatial", 1):
        return "spatial=0, statistics for each place of an image"
    if further or attributes(node).get("training_mode", 0):
        return "batch norm in training mode: export the model in eval mode"
    del node.output[1:]
    return None


def _dropout(node: onnx.NodeProto, facts: _Facts) -> str | None:
    if len(node.output) > 1 and node.output[1] in facts.used:
        return "its mask is used"
    if len(node.input) > 2 and node.input[2] and facts.constants.get(node.input[2], np.True_).any():
        return "dropout in training mode: export the model in eval mode"
    node.op_type = "Identity"
    del node.output[1:], node.input[1:], node.attribute[:]
    return None


def _upsample(node: onnx.NodeProto, facts: _Facts) -> str | None:
    """Write Upsample, and Resize of opset 10, as the later Resize; TVM rounds their nearest places wrong."""
    given = attributes(node)
    scales = given["scales"] if "scales" in given else facts.constants.get(node.input[1])
    if scales is None:
        return "its scales are computed at run time"
    name = f"{node.output[0]}:scales"
    facts.graph.initializer.append(numpy_helper.from_array(np.asarray(scales, np.float32), name))
    source = node.input[0]
    node.op_type = "Resize"
    del node.input[:]
    node.input.extend((source, "", name))
    set_attributes(node, scales=None, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return None


def _resize(node: onnx.NodeProto, facts: _Facts) -> str | None:
    if len(node.input) == 2:
        return _upsample(node, facts)
    if any(name and name not in facts.constants for name in node.input[2:]):
        return "its scales or sizes are computed at run time"
    return None


def _slice(node: onnx.NodeProto, facts: _Facts) -> str | None:
    """Write the limits of a Slice before opset 10, which are attributes, as inputs."""
    given = attributes(node)
    if "starts" not in given:
        return None
    axes = given.get("axes", range(len(given["starts"])))
    for what, values in (("starts", given["starts"]), ("ends", given["ends"]), ("axes", axes)):
        name = f"{node.output[0]}:{what}"
        facts.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        node.input.append(name)
    set_attributes(node, starts=None, ends=None, axes=None)
    return None


def _constant_input(index: int, what: str) -> Rule:
    def rule(node: onnx.NodeProto, facts: _Facts) -> str | None:
        given = len(node.input) > index and node.input[index]
        return f"its {what} is computed at run time" if given and given not in facts.constants else None

    return rule


RULES: dict[str, Rule] = {
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Dropout": _dropout,
    "Expand": _constant_input(1, "shape"),
    "LRN": _local_response_norm,
    "LpPool": _pool,
    "MaxPool": _pool,
    "Pad": _constant_input(1, "padding"),
    "Resize": _resize,
    "Reshape": _constant_input(1, "shape"),
    "Slice": _slice,
    "Tile": _constant_input(1, "repetition"),
    "Upsample": _upsample,
}
