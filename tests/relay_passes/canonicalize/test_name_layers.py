import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn

from relay_passes.canonicalize.name_layers import layer_name

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 3, 8, 8)).astype("float32")


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("conv1.weight", "conv1"),
        ("layer1.0.conv2.weight", "layer1.0.conv2"),
        ("conv1/7x7_s2_w_0", "conv1/7x7_s2"),
        ("gpu_0/res2_0_branch2a_bn_s_0", "gpu_0/res2_0_branch2a_bn"),
        ("block/conv/kernel:0", "block/conv"),
        ("fc_W", "fc"),
        ("weight", "weight"),
        ("features", "features"),
        ("view", "view"),
        ("upscale", "upscale"),
        ("onnx::Conv_497", "onnx::Conv_497"),
        ("größe 1/w", "größe 1"),
    ],
)
def test_a_layer_is_called_after_its_weight(weight, layer):
    assert layer_name(weight) == layer


def test_torch_layers_carry_their_modules_names(from_torch, names):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU(4))
            self.head = nn.Linear(4, 2)
            self.last = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            return self.last(self.head(nn.functional.max_pool2d(self.stem(x), 3, 2).mean((2, 3))))

    case = from_torch(Net(), torch.from_numpy(X))
    assert names(case.module) == [
        "stem.0",
        "stem.1",
        "stem.1.shift",
        "stem.2",
        "max_pool2d_1",
        "mean_1",
        "head",
        "head.bias",
        "last",
    ]
    assert case.difference() < 1e-5


def _convolutions(from_onnx, *weights):
    """A row of 1x1 convolutions with weights of these names."""
    nodes = [
        make_node("Conv", [f"v{i}" if i else "x", weight], [f"v{i + 1}"]) for i, weight in enumerate(weights)
    ]
    nodes.append(make_node("Relu", [f"v{len(weights)}"], ["y"]))
    values = {weight: RNG.normal(size=(3, 3, 1, 1)).astype("float32") for weight in weights}
    return from_onnx(nodes, {"x": X}, values)


def test_names_that_become_equal_are_numbered(from_onnx, names):
    case = _convolutions(from_onnx, "conv.weight", "conv_w", "conv/kernel")
    assert names(case.module) == ["conv", "conv_2", "conv_3", "relu_1"]
    assert case.difference() < 1e-5


def test_a_numbered_name_does_not_take_a_users(from_onnx, names):
    case = _convolutions(from_onnx, "conv.weight", "conv_w", "conv_2.weight", "relu_1.weight")
    assert len(set(names(case.module))) == 5
    assert {"conv", "conv_2", "relu_1"} < set(names(case.module))
    assert case.difference() < 1e-5


def test_one_weight_for_two_layers(from_onnx, names):
    case = _convolutions(from_onnx, "shared.weight", "shared.weight")
    assert names(case.module) == ["shared", "shared_2", "relu_1"]
    assert case.difference() < 1e-5


def test_a_weight_that_stands_in_the_graph_names_nothing(from_onnx, names):
    from onnx import numpy_helper

    value = numpy_helper.from_array(RNG.normal(size=(2, 3, 1, 1)).astype("float32"))
    bias = numpy_helper.from_array(np.ones(2, "float32"))
    nodes = [
        make_node("Constant", [], ["w"], value=value),
        make_node("Constant", [], ["b"], value=bias),
        make_node("Conv", ["x", "w", "b"], ["y"]),
    ]
    case = from_onnx(nodes, {"x": X}, {})
    assert names(case.module) == ["conv2d_1", "conv2d_1.bias"]
    assert case.difference() < 1e-5


def test_biases_are_called_after_their_layer(from_onnx, names):
    weights = {
        "c.weight": RNG.normal(size=(2, 3, 1, 1)).astype("float32"),
        "c.bias": RNG.normal(size=2).astype("float32"),
    }
    case = from_onnx([make_node("Conv", ["x", *weights], ["y"])], {"x": X}, weights)
    assert names(case.module) == ["c", "c.bias"]
