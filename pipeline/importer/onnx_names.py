"""What the user of an ONNX file calls its layers and weights.

A layer is called after its node, or after its output if the node has no name. Caffe2's exporter puts
the version of a tensor behind its name: `pool1/3x3_s2_1` is the layer `pool1/3x3_s2`, unless a later layer
writes to a tensor of that name too.

PyTorch's exporter calls a weight that it folded a batch norm into `onnx::Conv_497`; its node is still called
`/layer1/0/conv1/Conv`, and the weight is called after it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import onnx

from pipeline.importer.onnx_constants import REARRANGING
from relay_passes.canonicalize.name_layers import numbered

ANONYMOUS = "onnx::"
CONSTANTS = ("Constant", "ConstantOfShape")
ROLES = {1: "weight", 2: "bias"}
VERSION = re.compile(r"_\d+$")


def number_equal_nodes(graph: onnx.GraphProto) -> None:
    """Tell nodes of one name apart, which onnxruntime refuses: the second `pool` becomes `pool_2`.

    Parameters
    ----------
    graph : onnx.GraphProto
        Changed in place; names of blanks alone are taken off.
    """
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for node in graph.node:
        if not node.name.strip():
            node.name = ""
        elif node.name in seen:
            node.name = numbered(node.name, taken)
            taken.add(node.name)
        seen.add(node.name)


def layer_names(graph: onnx.GraphProto) -> dict[str, str]:
    """The layer that each value belongs to.

    Parameters
    ----------
    graph : onnx.GraphProto

    Returns
    -------
    dict of str to str
        By the names of the nodes' outputs. Equal names of several nodes are numbered.
    """
    values = [value for node in graph.node for value in node.output if value]
    named = _unversioned([*values, *(value.name for value in graph.input)])
    layers: dict[str, str] = {}
    taken: set[str] = set()
    for node in graph.node:
        outputs = [value for value in node.output if value]
        if node.name:
            name = numbered(node.name, taken)
            layers.update(dict.fromkeys(outputs, name))
        else:
            layers.update((value, numbered(named(value), taken)) for value in outputs)
        taken.update(layers[value] for value in outputs)
    return layers


def _unversioned(values: Iterable[str]) -> Callable[[str], str]:
    """Take the version off a value's name if all values have one and no other value has the same without."""
    values = tuple(values)
    if not all(VERSION.search(value) for value in values):
        return str
    count = Counter(VERSION.sub("", value) for value in values)

    def named(value: str) -> str:
        short = VERSION.sub("", value)
        return short if short and count[short] == 1 else value

    return named


def rearranged_weights(graph: onnx.GraphProto) -> dict[str, str]:
    """The weight that a value is a reshaped or transposed copy of, by the value's name."""
    makers = {value: node for node in graph.node for value in node.output}
    weights = {initializer.name for initializer in graph.initializer}
    weights |= {value for value, node in makers.items() if node.op_type in CONSTANTS}
    origins: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in REARRANGING:
            origin = origins.get(node.input[0], node.input[0])
            if origin in weights:
                origins[node.output[0]] = origin
    return origins


def name_weights(graph: onnx.GraphProto, origins: Mapping[str, str]) -> dict[str, str]:
    """Call folded copies of a weight as the weight, and anonymous weights after the node that reads them.

    Parameters
    ----------
    graph : onnx.GraphProto
        With folded constants; changed in place.
    origins : mapping of str to str
        `rearranged_weights` of the graph before that.

    Returns
    -------
    dict of str to str
        The new name of each weight.
    """
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            readers[name].append((node, index))
    taken = {initializer.name for initializer in graph.initializer} | readers.keys()
    names: dict[str, str] = {}
    for initializer in graph.initializer:
        uses = readers[initializer.name]
        name = origins.get(initializer.name) or _of_reader(initializer.name, uses)
        if name is not None and name not in taken:
            taken.add(name)
            names[initializer.name] = name
            initializer.name = name
            for node, index in uses:
                node.input[index] = name
    return names


def _of_reader(weight: str, uses: list[tuple[onnx.NodeProto, int]]) -> str | None:
    """The name of an anonymous weight that one named node alone reads."""
    if not weight.startswith(ANONYMOUS) or len(uses) != 1:
        return None
    node, index = uses[0]
    return f"{node.name}.{ROLES[index]}" if node.name and index in ROLES else None
