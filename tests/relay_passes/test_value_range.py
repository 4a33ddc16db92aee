import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from relay_passes.convolution import ChannelLayer
from relay_passes.graph import Graph
from relay_passes.value_range import UNKNOWN, is_unchanged_by, value_range


class Net(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, x):
        return self.compute(x)


X = torch.randn(1, 4, 6, 6)
POSITIVE = (0.0, math.inf)

RANGES = {
    "relu": (lambda x: x.relu(), POSITIVE),
    "clip": (lambda x: x.clamp(-1, 6), (-1, 6)),
    "sigmoid": (lambda x: x.sigmoid(), (0, 1)),
    "tanh": (lambda x: x.tanh(), UNKNOWN),
    "the input": (lambda x: F.max_pool2d(x, 2), UNKNOWN),
    "max pool": (lambda x: F.max_pool2d(x.clamp(2, 3), 3, 1, 1), (2, 3)),
    "average over zeros": (lambda x: F.avg_pool2d(x.clamp(2, 3), 3, 1, 1), (0, 3)),
    "average over pixels": (
        lambda x: F.avg_pool2d(x.clamp(2, 3), 3, 1, 1, count_include_pad=False),
        (2, 3),
    ),
    "average below zero": (lambda x: F.avg_pool2d(x.clamp(-3, -2), 3, 1, 1), (-3, 0)),
    "concat": (lambda x: torch.cat([x.clamp(-2, 3), x.relu()], 1), (-2, math.inf)),
    "concat with the input": (lambda x: torch.cat([x, x.relu()], 1), UNKNOWN),
    "concat with a constant": (lambda x: torch.cat([-torch.ones(1, 1, 6, 6), x.relu()], 1), UNKNOWN),
    "split": (lambda x: x.relu().split(2, 1)[1], POSITIVE),
    "a copy": (lambda x: x.relu().reshape(1, 2, 2, 6, 6).transpose(1, 2), POSITIVE),
    "a sum": (lambda x: x.relu() + x.sigmoid(), UNKNOWN),
}


@pytest.mark.parametrize(("compute", "expected"), RANGES.values(), ids=RANGES.keys())
def test_the_range_of_a_layer(from_torch, compute, expected):
    graph = Graph(from_torch(Net(compute), X).module)
    assert value_range(graph, graph.outputs[0]) == expected


def test_concats_of_concats_are_looked_at_once(from_torch):
    def compute(x):
        x = x.relu()
        for _ in range(12):
            x = torch.cat([x, x], 1)
        return x

    graph = Graph(from_torch(Net(compute), torch.randn(1, 1, 1, 1)).module)
    assert value_range(graph, graph.outputs[0]) == POSITIVE


@pytest.mark.parametrize(
    ("layer", "values", "expected"),
    [
        (nn.ReLU(), (0, 5), True),
        (nn.ReLU(), (-1, 5), False),
        (nn.ReLU6(), (0, 6), True),
        (nn.ReLU6(), POSITIVE, False),
        (nn.LeakyReLU(0.1), POSITIVE, True),
        (nn.PReLU(4), POSITIVE, True),
        (nn.PReLU(4), UNKNOWN, False),
        (nn.Sigmoid(), (0, 1), False),
    ],
)
def test_what_an_activation_leaves_unchanged(from_torch, layer, values, expected):
    graph = Graph(from_torch(layer, X).module)
    assert is_unchanged_by(ChannelLayer.at(graph, graph.layers[-1]), values) == expected
