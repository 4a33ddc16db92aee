import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn
from tvm import relax
from tvm.ir import assert_structural_equal

from relay_passes.canonicalize import PHASES
from relay_passes.canonicalize.name_layers import NameTheRest
from relay_passes.graph import Constant, Graph

RNG = np.random.default_rng(0)


def _caffe(from_onnx):
    """Convolution, batch norm, scale, PReLU, LRN, pool and sum as an ONNX network has them."""
    weights = {
        "conv.weight": RNG.normal(size=(4, 3, 3, 3)).astype("float32"),
        "conv.bias": RNG.normal(size=4).astype("float32"),
        "bn.gamma": RNG.uniform(0.5, 1, size=4).astype("float32"),
        "bn.beta": RNG.normal(size=4).astype("float32"),
        "bn.mean": RNG.normal(size=4).astype("float32"),
        "bn.var": RNG.uniform(0.5, 1, size=4).astype("float32"),
        "scale.w": RNG.normal(size=(4, 1, 1)).astype("float32"),
        "scale.b": RNG.normal(size=(1, 4, 1, 1)).astype("float32"),
        "act.slope": RNG.uniform(size=(4, 1, 1)).astype("float32"),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "fc.weight": RNG.normal(size=(5, 4)).astype("float32"),
        "fc.bias": RNG.normal(size=5).astype("float32"),
    }
    nodes = [
        make_node("Pad", ["x", "pads"], ["padded"]),
        make_node("Conv", ["padded", "conv.weight", "conv.bias"], ["c"]),
        make_node("BatchNormalization", ["c", "bn.gamma", "bn.beta", "bn.mean", "bn.var"], ["b"]),
        make_node("Mul", ["b", "scale.w"], ["m"]),
        make_node("Add", ["m", "scale.b"], ["a"]),
        make_node("PRelu", ["a", "act.slope"], ["p"]),
        make_node("Dropout", ["p"], ["d"]),
        make_node("LRN", ["d"], ["l"], size=3, alpha=0.1),
        make_node("MaxPool", ["l"], ["s"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        make_node("Sum", ["s", "s", "s"], ["t"]),
        make_node("GlobalAveragePool", ["t"], ["g"]),
        make_node("Flatten", ["g"], ["f"]),
        make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["e"], transB=1),
        make_node("Softmax", ["e"], ["y"]),
    ]
    return from_onnx(nodes, {"x": RNG.normal(size=(1, 3, 9, 9)).astype("float32")}, weights)


def test_the_canonical_form_of_a_caffe_network(from_onnx, operators, names):
    case = _caffe(from_onnx)
    assert operators(case.module) == [
        "nn.conv2d",
        "add",
        "multiply",
        "add",
        "multiply",
        "add",
        "nn.prelu",
        "lrn",
        "nn.max_pool2d",
        "add",
        "add",
        "mean",
        "reshape",
        "matmul",
        "add",
        "nn.softmax",
    ]
    assert len(set(names(case.module))) == len(names(case.module))
    assert names(case.module)[:7] == ["conv", "conv.bias", "bn", "bn.shift", "scale", "scale.bias", "act"]
    assert case.difference() < 1e-5
    relax.analysis.well_formed(case.module)


def test_all_weights_are_constants_in_place(from_onnx):
    case = _caffe(from_onnx)
    assert [var.name for var in case.module["main"].params] == ["x"]
    graph = Graph(case.module)
    convolution = graph.value[graph.layers[0]]
    assert isinstance(convolution.args[1], Constant)


@pytest.mark.parametrize("phase", [*PHASES, NameTheRest({})], ids=lambda phase: phase.info.name)
def test_a_second_time_changes_nothing(from_onnx, phase):
    module = _caffe(from_onnx).module
    assert_structural_equal(phase(module), module, map_free_vars=True)


def test_several_inputs_and_outputs_keep_their_order(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x, z):
            a, b = self.a(x), self.b(z)
            return b, a, a + b, a

    case = from_torch(Net(), torch.randn(1, 3, 4, 4), torch.randn(1, 2, 4, 4))
    assert [var.name for var in case.module["main"].params] == ["x", "z"]
    assert case.difference() < 1e-5
