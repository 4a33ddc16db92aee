import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from relay_passes import squashing, strip_softmax


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


def test_what_outputs_come_from(from_torch):
    heads = nn.Softmax(-1), nn.LogSoftmax(-1), nn.Sigmoid(), nn.ReLU(), nn.Identity()
    case = from_torch(Net(*heads), torch.randn(2, 4))
    assert squashing(case.module) == ("softmax", "softmax", "sigmoid", None, None)
    assert squashing(strip_softmax(case.module)) == (None,) * 5


def test_a_softmax_in_the_middle_squashes_no_output(from_torch):
    case = from_torch(
        nn.Sequential(nn.Softmax(-1), nn.Linear(4, 2), nn.Sigmoid(), nn.Tanh()), torch.randn(2, 4)
    )
    assert squashing(case.module) == (None,)


@pytest.mark.parametrize(("shape", "squashed"), [([2, 3, 2], "softmax"), ([3, 4], None)])
def test_a_softmax_between_two_reshapes(from_onnx, shape, squashed):
    """ONNX before opset 13 flattens for it; where the shape ends another, the reshape is a layer."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["a"], "flatten"),
        helper.make_node("Softmax", ["a"], ["b"], "softmax", axis=1),
        helper.make_node("Reshape", ["b", "back"], ["y"], "unflatten"),
    ]
    x = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32")
    shapes = {"flat": np.array([2, 6]), "back": np.array(shape)}
    case = from_onnx(nodes, {"x": x}, shapes)
    assert squashing(case.module) == (squashed,)
    wanted = (x,) if squashed else case.expected
    assert type(case)(strip_softmax(case.module), (x,), wanted).difference() < 1e-6
