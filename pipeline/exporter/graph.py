"""Write ONNX expressions as a graph: give every node and tensor its name.

A layer's node and its result have the layer's name, the constants that it reads `<layer>.<role>`; a node that
a layer needs besides is called `<layer>/<operator>`. A result that leaves the network has the output's name.
Names that are taken are numbered.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper, numpy_helper

from pipeline.exporter.expression import Input, Node, Output, Tensor, Value, Weight, element_type, node
from pipeline.exporter.translation import Translation

Made = Node | Output


def write_graph(
    graph: onnx.GraphProto, translation: Translation, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    """Fill a graph, in place, so that the weights are there once.

    Parameters
    ----------
    graph : onnx.GraphProto
        Empty.
    translation : Translation
    inputs, outputs : sequence of str
        The names of the graph's inputs and outputs.
    """
    writer = _Writer(graph, translation, inputs, outputs)
    for layer, results in translation.layers:
        writer.write_layer(layer, results)
    writer.copy_the_rest(translation.outputs, outputs)
    graph.input.extend(map(_value_info, inputs, translation.inputs))
    graph.output.extend(map(_value_info, outputs, translation.outputs))


class _Writer:
    def __init__(
        self,
        graph: onnx.GraphProto,
        translation: Translation,
        inputs: Sequence[str],
        outputs: Sequence[str],
    ):
        self._graph = graph
        self._tensors = _Names((*inputs, *outputs))
        self._node_names = _Names()
        self._inputs = {tensor.source: name for tensor, name in zip(translation.inputs, inputs, strict=True)}
        self._outputs: dict[Made, str] = {}
        for tensor, name in zip(translation.outputs, outputs, strict=True):
            if isinstance(tensor.source, Made):
                self._outputs.setdefault(tensor.source, name)
        self._written: dict[Made | Weight, str] = {}

    def write_layer(self, name: str, results: Sequence[Tensor]) -> None:
        """Write what computes a layer's results, unless another layer has."""
        for tensor in results:
            made = tensor.source.node if isinstance(tensor.source, Output) else tensor.source
            if isinstance(made, Node):
                self._write(made, name, name)

    def copy_the_rest(self, tensors: Sequence[Tensor], names: Sequence[str]) -> None:
        """Give a result that is an input, a constant or another result already a node of its own."""
        for tensor, name in zip(tensors, names, strict=True):
            if self._outputs.get(tensor.source) != name:
                copy = node("Identity", tensor)
                self._outputs[copy] = name
                self._write(copy, name, name)

    def _write(self, made: Node, layer: str, name: str) -> None:
        results = [Output(made, index) for index in range(made.outputs)] if made.outputs > 1 else [made]
        if results[0] in self._written:
            return
        read = ["" if value is None else self._tensor(value, layer) for value in made.inputs]
        for index, result in enumerate(results):
            own = name if made.outputs == 1 else f"{name}.{index}"
            self._written[result] = self._outputs.get(result) or self._tensors.unique(own)
        written = [self._written[result] for result in results]
        node_name = self._node_names.unique(name)
        self._graph.node.append(helper.make_node(made.operator, read, written, node_name, **made.attributes))

    def _tensor(self, value: Value, layer: str) -> str:
        """The name of a value that a layer reads, which is written first if it is the layer's own."""
        source = value.source if isinstance(value, Tensor) else value
        if isinstance(source, Input):
            return self._inputs[source]
        if source not in self._written:
            if isinstance(source, Weight):
                self._written[source] = self._tensors.unique(f"{layer}.{source.role}")
                self._graph.initializer.append(numpy_helper.from_array(source.array, self._written[source]))
            else:
                inner = source.node if isinstance(source, Output) else source
                self._write(inner, layer, f"{layer}/{inner.operator}")
        return self._written[source]


class _Names:
    """Names that are taken."""

    def __init__(self, taken: Sequence[str] = ()):
        self._taken = set(taken)

    def unique(self, name: str) -> str:
        """The name, numbered if it is taken."""
        number, free = 1, name
        while free in self._taken:
            number += 1
            free = f"{name}_{number}"
        self._taken.add(free)
        return free


def _value_info(name: str, tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type(tensor.dtype), tensor.shape)
