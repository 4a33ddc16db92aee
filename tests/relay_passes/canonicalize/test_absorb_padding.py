import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn
from torch.nn import functional as F

from relay_passes.graph import Graph


def _padding(module):
    graph = Graph(module)
    (call,) = (c for var in graph.layers if (c := graph.call(var, "nn.conv2d")) is not None)
    return tuple(int(width) for width in call.attrs.padding)


class Padded(nn.Module):
    def __init__(self, *widths, groups=1, value=0.0):
        super().__init__()
        self.widths, self.value = widths, value
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=groups)

    def forward(self, x):
        for width in self.widths:
            x = F.pad(x, width, "constant", self.value)
        return self.conv(x)


@pytest.mark.parametrize("groups", [1, 4])
def test_torch_padding_adds_to_the_convolutions_own(from_torch, operators, groups):
    case = from_torch(Padded((1, 2, 0, 3), groups=groups), torch.randn(1, 4, 6, 6))
    assert operators(case.module) == ["nn.conv2d", "add"]
    assert _padding(case.module) == (1, 2, 4, 3)
    assert case.difference() < 1e-5


def test_paddings_in_a_row(from_torch, operators):
    case = from_torch(Padded((1, 0, 0, 0), (0, 2, 1, 0)), torch.randn(1, 4, 6, 6))
    assert operators(case.module) == ["nn.conv2d", "add"]
    assert _padding(case.module) == (2, 2, 1, 3)
    assert case.difference() < 1e-5


def test_onnx_pad(from_onnx, operators):
    rng = np.random.default_rng(0)
    weights = {
        "pads": np.array([0, 0, 1, 2, 0, 0, 3, 0]),
        "c.weight": rng.normal(size=(2, 3, 3, 3)).astype("float32"),
    }
    nodes = [make_node("Pad", ["x", "pads"], ["p"]), make_node("Conv", ["p", "c.weight"], ["y"])]
    case = from_onnx(nodes, {"x": rng.normal(size=(1, 3, 5, 5)).astype("float32")}, weights)
    assert operators(case.module) == ["nn.conv2d"]
    assert _padding(case.module) == (1, 2, 3, 0)
    assert case.difference() < 1e-5


@pytest.mark.parametrize("net", [Padded((1, 1, 1, 1), value=1.0), Padded((-1, 0, 0, 0))])
def test_other_paddings_stay(from_torch, operators, net):
    case = from_torch(net, torch.randn(1, 4, 6, 6))
    assert operators(case.module)[-2:] == ["nn.conv2d", "add"]
    assert len(operators(case.module)) > 2
    assert case.difference() < 1e-5


def test_other_readers_of_the_padding_keep_it(from_torch, operators):
    class Two(Padded):
        def forward(self, x):
            padded = F.pad(x, (1, 1, 1, 1))
            return self.conv(padded), padded.sigmoid()

    case = from_torch(Two(), torch.randn(1, 4, 6, 6))
    assert sorted(operators(case.module)) == ["add", "nn.conv2d", "nn.pad", "sigmoid"]
    assert case.difference() < 1e-5
