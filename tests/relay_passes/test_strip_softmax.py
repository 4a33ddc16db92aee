import pytest
import torch
from torch import nn

from relay_passes import strip_softmax


class Net(nn.Module):
    def __init__(self, *heads):
        super().__init__()
        self.dense, self.heads = nn.Linear(4, 3), nn.ModuleList(heads)

    def forward(self, x):
        y = self.dense(x)
        return tuple(head(y) for head in self.heads)


@pytest.mark.parametrize("softmax", [nn.Softmax(-1), nn.LogSoftmax(-1), nn.Sigmoid()])
def test_a_final_softmax_goes(from_torch, operators, softmax):
    net = Net(softmax)
    x = torch.randn(2, 4)
    case = from_torch(net, x)
    module = strip_softmax(case.module)
    assert operators(module) == ["matmul", "add"]
    assert type(case)(module, case.inputs, (net.dense(x).detach().numpy(),)).difference() < 1e-5


def test_other_outputs_stay(from_torch, operators):
    case = from_torch(Net(nn.ReLU(), nn.Softmax(-1), nn.Tanh()), torch.randn(2, 4))
    module = strip_softmax(case.module)
    assert operators(module) == ["matmul", "add", "nn.relu", "tanh"]
    values = type(case)(module, case.inputs, (case.expected[0], None, case.expected[2]))
    from pipeline.twin import evaluate

    relu, logits, _ = evaluate(module, values.inputs)
    assert (relu == logits.clip(0)).all()


def test_a_softmax_in_the_middle_stays(from_torch, operators):
    case = from_torch(nn.Sequential(nn.Softmax(-1), nn.Linear(4, 2)), torch.randn(2, 4))
    assert operators(strip_softmax(case.module)) == ["nn.softmax", "matmul", "add"]


def test_a_network_that_is_a_softmax(from_torch):
    case = from_torch(nn.Softmax(-1), torch.randn(2, 4))
    module = strip_softmax(case.module)
    assert type(case)(module, case.inputs, case.inputs).difference() < 1e-6
