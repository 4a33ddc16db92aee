"""The convolutions of an ONNX file, each as a network of its own."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]

_OPSET = 18


@dataclass(frozen=True)
class Convolution:
    """A convolution with its bias, and with a ReLU if one follows.

    Attributes
    ----------
    image, weight, output : tuple of int
        Shapes in NCHW and OIHW.
    strides, pads, dilations : tuple of int
        As ONNX has them.
    groups : int
    relu : bool
    """

    image: Shape
    weight: Shape
    output: Shape
    strides: Shape
    pads: Shape
    dilations: Shape
    groups: int
    relu: bool

    @property
    def multiply_adds(self) -> int:
        """The output's size times channels and window that go into each of its values."""
        return prod(self.output) * prod(self.weight[1:])

    def __str__(self) -> str:
        """Such as ``64x56x56 -> 192, 3x3/1``."""
        _, channels, height, width = self.image
        out, _, rows, columns = self.weight
        return f"{channels}x{height}x{width} -> {out}, {rows}x{columns}/{self.strides[0]}"

    def write(self, path: Path, seed: int = 0) -> Path:
        """Write it as an ONNX file with random weights."""
        generator = np.random.default_rng(seed)
        size = prod(self.weight[1:])
        weights = {
            "weight": generator.standard_normal(self.weight).astype("float32") / np.float32(size**0.5),
            "bias": generator.standard_normal(self.weight[0]).astype("float32"),
        }
        attributes = {
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations,
            "group": self.groups,
        }
        nodes = [helper.make_node("Conv", ["image", "weight", "bias"], ["sums"], "conv", **attributes)]
        if self.relu:
            nodes.append(helper.make_node("Relu", ["sums"], ["output"], "relu"))
        result = nodes[-1].output[0]
        graph = helper.make_graph(
            nodes,
            "convolution",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.image)],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, self.output)],
            [numpy_helper.from_array(each, name) for name, each in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
        onnx.save_model(model, path)
        return path


def heaviest(model: Path, most: int) -> list[tuple[Convolution, int]]:
    """Return the convolutions with most multiply-adds in all their calls, and how many calls there are."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
    weights = {each.name: tuple(each.dims) for each in graph.initializer}
    shapes = {
        each.name: tuple(size.dim_value for size in each.type.tensor_type.shape.dim)
        for each in (*graph.input, *graph.value_info, *graph.output)
    }
    rectified = {node.input[0] for node in graph.node if node.op_type == "Relu"}
    found = Counter(
        _convolution(node, weights | shapes, node.output[0] in rectified)
        for node in graph.node
        if node.op_type == "Conv"
    )
    return sorted(found.items(), key=lambda each: -each[0].multiply_adds * each[1])[:most]


def _convolution(node: onnx.NodeProto, shapes: dict[str, Shape], relu: bool) -> Convolution:
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    window = len(shapes[node.input[1]]) - 2
    return Convolution(
        image=shapes[node.input[0]],
        weight=shapes[node.input[1]],
        output=shapes[node.output[0]],
        strides=tuple(given.get("strides", (1,) * window)),
        pads=tuple(given.get("pads", (0,) * 2 * window)),
        dilations=tuple(given.get("dilations", (1,) * window)),
        groups=given.get("group", 1),
        relu=relu,
    )
