import torch
from torch import nn


class Gate(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def forward(self, x):
        return self.gate(x)


def test_torch_silu(from_torch, operators):
    case = from_torch(nn.SiLU(), torch.randn(1, 3, 4, 4))
    assert operators(case.module) == ["nn.silu"]
    assert case.difference() < 1e-6


def test_the_sigmoid_may_stand_first(from_torch, operators):
    case = from_torch(Gate(lambda x: x.sigmoid() * x), torch.randn(1, 3, 4, 4))
    assert operators(case.module) == ["nn.silu"]
    assert case.difference() < 1e-6


def test_the_sigmoid_of_something_else_stays(from_torch, operators):
    case = from_torch(Gate(lambda x: x * x.relu().sigmoid()), torch.randn(1, 3, 4, 4))
    assert operators(case.module) == ["nn.relu", "sigmoid", "multiply"]
    assert case.difference() < 1e-6
