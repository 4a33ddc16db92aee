import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn

X = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype("float32")


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(),
        nn.Dropout2d(),
        nn.Identity(),
        nn.AdaptiveAvgPool2d((4, 4)),
        nn.AvgPool2d(1),
        nn.MaxPool2d(1),
        nn.ZeroPad2d(0),
    ],
)
def test_torch_layers_that_change_nothing(from_torch, operators, layer):
    case = from_torch(nn.Sequential(nn.ReLU(), layer, nn.Sigmoid()), torch.from_numpy(X))
    assert operators(case.module) == ["nn.relu", "sigmoid"]
    assert case.difference() < 1e-6


@pytest.mark.parametrize(
    "layer",
    [nn.AdaptiveAvgPool2d((2, 2)), nn.MaxPool2d(1, 2), nn.AvgPool2d(1, padding=0, stride=2), nn.ZeroPad2d(1)],
)
def test_torch_layers_that_change_something(from_torch, operators, layer):
    case = from_torch(nn.Sequential(nn.ReLU(), layer, nn.Sigmoid()), torch.from_numpy(X))
    assert len(operators(case.module)) == 3
    assert case.difference() < 1e-6


@pytest.mark.parametrize(
    ("node", "weights"),
    [
        (make_node("Dropout", ["r"], ["i"]), {}),
        (make_node("Identity", ["r"], ["i"]), {}),
        (make_node("Concat", ["r"], ["i"], axis=1), {}),
        (make_node("Reshape", ["r", "s"], ["i"]), {"s": np.array([1, 3, 4, 4])}),
        (make_node("Transpose", ["r"], ["i"], perm=[0, 1, 2, 3]), {}),
        (make_node("Cast", ["r"], ["i"], to=1), {}),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
def test_onnx_nodes_that_change_nothing(from_onnx, operators, node, weights):
    nodes = [make_node("Relu", ["x"], ["r"]), node, make_node("Sigmoid", ["i"], ["y"])]
    case = from_onnx(nodes, {"x": X}, weights)
    assert operators(case.module) == ["nn.relu", "sigmoid"]
    assert case.difference() < 1e-6


def test_a_transposition_of_equal_sizes_stays(from_onnx, operators):
    case = from_onnx([make_node("Transpose", ["x"], ["y"], perm=[0, 1, 3, 2])], {"x": X}, {})
    assert operators(case.module) == ["permute_dims"]
    assert case.difference() < 1e-6


def test_an_identity_between_input_and_output(from_onnx):
    case = from_onnx([make_node("Dropout", ["x"], ["y"])], {"x": X}, {})
    assert case.difference() < 1e-6
