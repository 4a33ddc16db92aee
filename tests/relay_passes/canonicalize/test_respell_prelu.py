import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn

from relay_passes.graph import Graph, array_of

X = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("float32")


def _slopes(case):
    graph = Graph(case.module)
    (layer,) = graph.layers
    call = graph.call(layer, "nn.prelu")
    assert int(call.attrs.axis) == 1
    return array_of(call.args[1])


@pytest.mark.parametrize("count", [1, 4])
def test_torch_prelu(from_torch, count):
    layer = nn.PReLU(count)
    layer.weight.data = torch.linspace(0.1, 0.7, count)
    case = from_torch(layer, torch.from_numpy(X))
    assert _slopes(case) == pytest.approx(np.linspace(0.1, 0.7, count).repeat(4 // count))
    assert case.difference() < 1e-6


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (4, 1, 1), (1, 4, 1, 1)])
def test_onnx_prelu(from_onnx, shape):
    slope = np.linspace(0.1, 0.7, int(np.prod(shape))).astype("float32").reshape(shape)
    case = from_onnx([make_node("PRelu", ["x", "s"], ["y"])], {"x": X}, {"s": slope})
    assert _slopes(case) == pytest.approx(slope.reshape(-1).repeat(4 // slope.size))
    assert case.difference() < 1e-6


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 4, 4), (1, 4, 4)])
def test_slopes_within_a_channel_are_no_channel_slopes(from_onnx, shape):
    slope = np.random.default_rng(1).uniform(size=shape).astype("float32")
    case = from_onnx([make_node("PRelu", ["x", "s"], ["y"])], {"x": X}, {"s": slope})
    graph = Graph(case.module)
    assert not any(
        graph.call(var, "nn.prelu") is not None and int(graph.value[var].attrs.axis) == 1
        for var in graph.layers
    )
    assert case.difference() < 1e-6


def test_prelu_behind_a_dense_layer(from_torch):
    case = from_torch(nn.Sequential(nn.Linear(5, 4), nn.PReLU(4)), torch.randn(2, 5))
    assert case.difference() < 1e-6


def test_a_where_with_another_threshold_is_left_alone(from_torch, operators):
    class Threshold(nn.Module):
        def forward(self, x):
            return torch.where(x > 1.0, x, 0.5 * x)

    case = from_torch(Threshold(), torch.from_numpy(X))
    assert "nn.prelu" not in operators(case.module)
    assert case.difference() < 1e-6
