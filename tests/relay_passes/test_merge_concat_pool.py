import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.twin import evaluate
from relay_passes import Kind, Reason, apply_plan, plan_merges, reborn_layers
from relay_passes.convolution import Convolution
from relay_passes.graph import Graph


class Stage(nn.Module):
    """Two convolutions on one input, joined, and what reads them."""

    def __init__(self, then, a=None, b=None):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1) if a is None else a
        self.b = nn.Conv2d(3, 5, 3, padding=1) if b is None else b
        self.then = then

    def forward(self, x):
        return self.then(torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1))


X = torch.randn(1, 3, 16, 16)


def _merged(case):
    plan = plan_merges(case.module)
    module = apply_plan(case.module, plan)
    case.difference(module)
    return plan, module


@pytest.mark.parametrize(
    "then", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, ceil_mode=True)], ids=str
)
def test_every_branch_takes_the_pools_stride(from_torch, operators, then):
    case = from_torch(Stage(then), X)
    plan, module = _merged(case)
    (candidate,) = plan.candidates
    assert (candidate.kind, candidate.exact) == (Kind.STREAMLINE, False)
    assert candidate.name == candidate.found_at == candidate.removed[0]
    assert operators(module) == ["nn.conv2d", "add", "nn.relu"] * 2 + ["concat"]
    graph = Graph(module)
    found = [c for var in graph.layers if (c := Convolution.at(graph, var)) is not None]
    assert [c.strides for c in found] == [(2, 2), (2, 2)]
    assert reborn_layers(module) == ["a", "b"]


def test_an_lrn_and_a_pool(from_torch, operators):
    case = from_torch(Stage(nn.Sequential(nn.LocalResponseNorm(3), nn.MaxPool2d(2), nn.ReLU())), X)
    plan, module = _merged(case)
    assert [c.removed for c in plan.candidates] == [("lrn_1",), ("max_pool2d_1",)]
    assert operators(module)[-2:] == ["concat", "nn.relu"]


REFUSED = {
    "the concat has other readers": (
        lambda: Stage(lambda y: F.max_pool2d(y, 2) + F.avg_pool2d(y, 2)),
        Reason.SEVERAL_USERS,
    ),
    "the concat leaves the network": (lambda: Stage(lambda y: (F.max_pool2d(y, 2), y)), Reason.SEVERAL_USERS),
    "a branch is smaller than the window": (
        lambda: Stage(nn.MaxPool2d(3, 2), None, nn.Conv2d(3, 5, 1)),
        Reason.KERNEL_TOO_SMALL,
    ),
    "a branch leaves columns unread": (
        lambda: Stage(nn.MaxPool2d(2), nn.Conv2d(3, 4, (3, 1), padding=(1, 0))),
        Reason.KERNEL_TOO_SMALL,
    ),
    "no padding gives the size": (
        lambda: Stage(nn.MaxPool2d(2, padding=1), *(nn.Conv2d(3, n, 2, 2, 1) for n in (4, 5))),
        Reason.SHAPE_WOULD_CHANGE,
    ),
    "a branch is no convolution": (lambda: Stage(nn.MaxPool2d(2), nn.Identity()), Reason.NO_CONVOLUTION),
}  # fmt: skip


@pytest.mark.parametrize(("build", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_pools_that_are_refused(from_torch, build, reason):
    case = from_torch(build(), torch.randn(1, 3, 15, 15))
    plan, module = _merged(case)
    refused = [r for r in plan.refusals if r.kind is Kind.STREAMLINE]
    assert {r.reason for r in refused} == {reason}
    assert all(r.layers[-1] == r.name for r in refused)
    assert case.difference(module) < 1e-5


def test_a_branch_that_others_read_is_refused(from_torch):
    class Net(Stage):
        def forward(self, x):
            a = F.relu(self.a(x))
            return F.max_pool2d(torch.cat([a, F.relu(self.b(x))], 1), 2), a

    case = from_torch(Net(None), X)
    plan, module = _merged(case)
    assert plan.candidates == ()
    assert Reason.SEVERAL_USERS in {r.reason for r in plan.refusals}
    assert case.difference(module) < 1e-5


def test_the_same_branch_twice_is_refused(from_torch):
    class Net(Stage):
        def forward(self, x):
            a = F.relu(self.a(x))
            return F.max_pool2d(torch.cat([a, a], 1), 2)

    case = from_torch(Net(None), X)
    plan, module = _merged(case)
    assert [r.reason for r in plan.refusals if r.kind is Kind.STREAMLINE] == [Reason.SEVERAL_USERS]
    assert case.difference(module) < 1e-5


def test_a_global_pool_behind_a_concat_is_told_once(from_torch):
    plan, _ = _merged(from_torch(Stage(nn.AdaptiveAvgPool2d(1)), X))
    assert [r.reason for r in plan.refusals if r.kind is Kind.STREAMLINE] == [Reason.GLOBAL_POOL]


def test_a_concat_of_rows_is_refused(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return F.max_pool2d(torch.cat([self.a(x), self.b(x)], 2), 2)

    plan, _ = _merged(from_torch(Net(), X))
    assert [r.reason for r in plan.refusals] == [Reason.NO_CONVOLUTION]


class Interleaved(Stage):
    """A convolution whose halves stand on both sides of another in the concat."""

    def __init__(self, then=None, also=None):
        super().__init__(nn.MaxPool2d(2) if then is None else then)
        self.also = also

    def forward(self, x):
        first, second = F.relu(self.a(x)).split([1, 3], 1)
        y = self.then(torch.cat([first, F.relu(self.b(x)), second], 1))
        return y if self.also is None else (y, self.also(first, second))


def test_a_split_stays_between_smaller_pictures(from_torch, operators):
    """M6: each channel is that of the old convolution at the middle of the window, where it was."""
    net = Interleaved()
    every_second = Interleaved(lambda y: y[:, :, ::2, ::2])
    every_second.load_state_dict(net.state_dict())
    case = from_torch(net, X)
    plan, module = _merged(case)
    assert [c.kind for c in plan.candidates] == [Kind.STREAMLINE]
    assert "nn.max_pool2d" not in operators(module)
    assert reborn_layers(module) == ["a", "b"]
    with torch.no_grad():
        expected = every_second(X).numpy()
    np.testing.assert_allclose(evaluate(module, case.inputs)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "also", [lambda first, second: first.sin(), lambda first, second: second, lambda first, second: first + 1]
)
def test_a_part_that_others_read_is_refused(from_torch, also):
    case = from_torch(Interleaved(also=also), X)
    plan, module = _merged(case)
    assert [r.reason for r in plan.refusals if r.kind is Kind.STREAMLINE] == [Reason.SEVERAL_USERS]
    assert case.difference(module) < 1e-5


def test_a_part_that_is_left_out_is_no_hindrance(from_torch, operators):
    class Net(Stage):
        def forward(self, x):
            _, second = F.relu(self.a(x)).split([1, 3], 1)
            return self.then(torch.cat([F.relu(self.b(x)), second], 1))

    _, module = _merged(from_torch(Net(nn.MaxPool2d(2)), X))
    assert "nn.max_pool2d" not in operators(module)


def test_a_split_of_rows_is_refused(from_torch):
    class Net(Stage):
        def forward(self, x):
            first, second = F.relu(self.a(x)).split(8, 2)
            return self.then(torch.cat([first, second], 1))

    case = from_torch(Net(nn.MaxPool2d(2)), X)
    plan, module = _merged(case)
    assert [r.reason for r in plan.refusals if r.kind is Kind.STREAMLINE] == [Reason.NO_CONVOLUTION]
    assert case.difference(module) < 1e-5
