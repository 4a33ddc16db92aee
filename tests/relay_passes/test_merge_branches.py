"""Cases M5 and M10: which branches become part of which, where their channels go, and what is refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from tvm import relax

from pipeline.twin import evaluate
from relay_passes import Kind, Reason, apply_plan, plan_merges, reborn_layers
from relay_passes.branch_block import forks_of
from relay_passes.branch_fit import cannot_absorb
from relay_passes.branch_groups import divided
from relay_passes.convolution import Convolution
from relay_passes.graph import Graph
from relay_passes.merge import Findings, next_sweep
from relay_passes.merge_branches import Block as BranchBlock


class Block(nn.Module):
    """Branches on one input, joined in the order in which they are given."""

    def __init__(self, *branches, stem=None):
        super().__init__()
        self.stem = nn.Identity() if stem is None else stem
        self.names = [name for name, _ in branches]
        for name, branch in branches:
            self.add_module(name, branch)

    def forward(self, x):
        x = self.stem(x)
        return torch.cat([getattr(self, name)(x) for name in self.names], 1)


def conv(inputs, outputs, kernel=1, activation=nn.ReLU, **options):
    options = {"padding": kernel // 2 if isinstance(kernel, int) else 0, **options}
    layers = [nn.Conv2d(inputs, outputs, kernel, **options)]
    return nn.Sequential(*layers, *([] if activation is None else [activation()]))


def pooled(inputs, outputs, window=3, **options):
    return nn.Sequential(nn.MaxPool2d(window, 1, window // 2), *conv(inputs, outputs, **options))


def merged(case, **into):
    """Make one branch part of another, by the names of both, whatever that costs."""

    def find(graph):
        (block,) = [block for var in graph.layers if (block := BranchBlock.at(graph, var)) is not None]
        named = {branch.name.partition(".")[0]: branch for branch in block.own}
        assert [cannot_absorb(named[large], named[small]) for small, large in into.items()] == [None] * len(
            into
        )
        absorbers = {named[small].place: named[large] for small, large in into.items()}
        forks = forks_of(graph, block.own, block.untrained)
        return Findings((block.merge("block", [divided(fork, absorbers) for fork in forks]),), ())

    sweep = next_sweep(case.module, find, lambda _: True)
    relax.analysis.well_formed(sweep.module)
    return sweep.module, sweep.merges[0]


def convolutions(module):
    graph = Graph(module)
    found = (Convolution.at(graph, var) for var in graph.layers)
    return {c.name: c for c in found if c is not None}


def refusal(case):
    (found,) = [r for r in plan_merges(case.module).refusals if r.kind is Kind.BRANCH]
    return found


X = torch.randn(1, 6, 8, 8)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_1x1_branch_is_exact_in_any_order(from_torch, order):
    """M5: unequal widths; the 1x1 branch goes into the 3x3, with or without the 5x5 in between."""
    branches = [("b1", conv(6, 3)), ("b3", conv(6, 5, 3)), ("b5", conv(6, 4, 5))]
    case = from_torch(Block(*(branches[i] for i in order)), X)
    module, merge = merged(case, b1="b3")
    assert merge.exact
    assert set(convolutions(module)) == {"b3.0", "b5.0"}
    assert convolutions(module)["b3.0"].weight.shape == (8, 6, 3, 3)
    assert case.difference(module) < 1e-5
    assert reborn_layers(module) == []


@pytest.mark.parametrize("where", ["a", "b"])
def test_what_an_earlier_merge_changed_is_not_merged_exactly(from_torch, where):
    """The LRN that was pruned from one of the branches made its convolution a layer to be trained."""
    norm = {"a": nn.Identity(), "b": nn.Identity(), where: nn.LocalResponseNorm(3)}
    branches = [(name, nn.Sequential(conv(6, 3), norm[name])) for name in ("a", "b")]
    case = from_torch(Block(*branches), X)
    plan = plan_merges(case.module)
    assert [(c.kind, c.exact) for c in plan.candidates] == [(Kind.STREAMLINE, False), (Kind.BRANCH, False)]
    assert reborn_layers(apply_plan(case.module, plan)) == ["a.0.0"]


@pytest.mark.parametrize(("first", "second"), [(True, True), (False, True), (True, False)])
def test_biases_join(from_torch, first, second):
    branches = [("b1", conv(6, 3, bias=first)), ("b3", conv(6, 5, 3, bias=second))]
    case = from_torch(Block(*branches), X)
    module, _ = merged(case, b1="b3")
    assert case.difference(module) < 1e-5


def test_a_block_of_one_piece_needs_no_concat(from_torch, operators):
    case = from_torch(Block(("e1", conv(6, 3)), ("e3", conv(6, 5, 3))), X)
    module, _ = merged(case, e1="e3")
    assert operators(module) == ["nn.conv2d", "add", "nn.relu"]


@pytest.mark.parametrize(
    "activation", [None, nn.ReLU6, nn.Sigmoid, lambda: nn.LeakyReLU(0.2), lambda: nn.PReLU(init=0.1)]
)
def test_every_activation(from_torch, activation):
    case = from_torch(Block(("e1", conv(6, 3, activation=activation)), ("e3", conv(6, 5, 3, activation))), X)
    module, _ = merged(case, e1="e3")
    assert case.difference(module) < 1e-5


def test_slopes_and_scales_by_channel_join(from_torch, randomised):
    e1 = nn.Sequential(nn.Conv2d(6, 3, 1), nn.PReLU(3))
    e3 = nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.PReLU(5))
    e1[1].weight.data, e3[1].weight.data = torch.rand(3), torch.rand(5)
    case = from_torch(Block(("e1", e1), ("e3", e3)), X)
    module, _ = merged(case, e1="e3")
    assert case.difference(module) < 1e-5


@pytest.mark.parametrize(
    ("small", "kernel", "padding", "stride"),
    [(0, 3, 1, 1), (0, 5, 2, 2), (1, 3, 2, 1), (0, 2, 0, 2), (0, 3, 0, 4), (1, 3, 3, 4)],
)
def test_the_kernel_stands_where_the_branch_looked(from_torch, small, kernel, padding, stride):
    pixel = conv(6, 3, padding=small, stride=stride)
    large = conv(6, 4, kernel, padding=padding, stride=stride)
    case = from_torch(Block(("b1", pixel), ("large", large)), X)
    module, merge = merged(case, b1="large")
    assert merge.exact
    assert case.difference(module) < 1e-5


def test_a_layer_in_front_without_padding_moves_the_place(from_torch):
    """Behind a valid 3x3 layer that only mixes channels each place is one pixel further in."""
    front = nn.Conv2d(6, 6, 3, bias=False)
    front.weight.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    deep = nn.Sequential(front, nn.Conv2d(6, 4, 3, padding=2), nn.ReLU())
    case = from_torch(Block(("b1", conv(6, 3)), ("deep", deep)), X)
    module, _ = merged(case, b1="deep")
    ours = evaluate(module, case.inputs)[0][:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(ours, case.expected[0][:, :, 1:-1, 1:-1], atol=1e-4)


def test_a_linear_layer_in_front_of_full_rank_is_exact(from_torch):
    """K pinv(R): behind a linear layer that only mixes channels the branch reads the input it read before."""
    front = nn.Conv2d(6, 8, 3, padding=1, bias=False)
    centre = front.weight.data[:, :, 1:2, 1:2].clone()
    front.weight.data.zero_()
    front.weight.data[:, :, 1:2, 1:2] = centre
    deep = nn.Sequential(front, nn.Conv2d(8, 4, 3, padding=1), nn.ReLU())
    case = from_torch(Block(("b1", conv(6, 3)), ("deep", deep)), X)
    module, merge = merged(case, b1="deep")
    assert not merge.exact
    assert convolutions(module)["deep.1"].weight.shape == (7, 8, 3, 3)
    assert case.difference(module) < 1e-4


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
def test_channels_stand_where_readers_expect_them(from_torch, order):
    """M5: only the pool branch's channels may change, whatever the order of the concat."""
    widths = {"b1": 3, "b3": 5, "b5": 4, "pool": 2}
    branches = [("b1", conv(6, 3)), ("b3", conv(6, 5, 3)), ("b5", conv(6, 4, 5)), ("pool", pooled(6, 2))]
    in_order = [branches[i] for i in order]
    case = from_torch(Block(*in_order), X)
    module, _ = merged(case, b1="b3", pool="b5")
    (ours,) = evaluate(module, case.inputs)
    start = 0
    for name, _ in in_order:
        channels = slice(start, start + widths[name])
        start += widths[name]
        same = np.abs(ours[:, channels] - case.expected[0][:, channels]).max() < 1e-4
        assert same == (name != "pool")
    assert reborn_layers(module) == ["b5.0"]


def test_a_pool_branch_starts_as_its_convolution_without_the_pool(from_torch):
    net = Block(("b5", conv(6, 4, 5)), ("pool", pooled(6, 2)))
    case = from_torch(net, X)
    module, _ = merged(case, pool="b5")
    with torch.no_grad():
        guess = F.relu(net.pool[1](X))
    np.testing.assert_allclose(evaluate(module, case.inputs)[0][:, 4:], guess.numpy(), atol=1e-5)


def inception(inputs, b1, reduce3, b3, reduce5, b5, pool):
    return Block(
        ("b1", conv(inputs, b1)),
        ("b3", nn.Sequential(conv(inputs, reduce3), conv(reduce3, b3, 3))),
        ("b5", nn.Sequential(conv(inputs, reduce5), conv(reduce5, b5, 5))),
        ("pool", pooled(inputs, pool)),
        stem=nn.ReLU(),
    )


def test_inception_3a_as_in_the_paper(from_torch):
    case = from_torch(inception(192, 64, 96, 128, 16, 32, 32), torch.randn(1, 192, 28, 28))
    plan = plan_merges(case.module)
    module = apply_plan(case.module, plan)
    shapes = {name: c.weight.shape for name, c in convolutions(module).items()}
    assert shapes == {
        "b3.0.0": (48, 192, 1, 1),
        "b3.1.0": (192, 48, 3, 3),
        "b5.0.0": (16, 192, 1, 1),
        "b5.1.0": (64, 16, 5, 5),
    }
    (candidate,) = plan.candidates
    assert set(candidate.removed) >= {"b1.0", "pool.1", "max_pool2d_1"}
    assert reborn_layers(module) == ["b3.0.0", "b3.1.0", "b5.1.0"]
    pixels = 28 * 28
    assert candidate.macs_before == pixels * (192 * (64 + 96 + 16 + 32) + 96 * 128 * 9 + 16 * 32 * 25)
    assert candidate.macs_after == pixels * (192 * (48 + 16) + 48 * 192 * 9 + 16 * 64 * 25)
    assert [int(n) for n in module["main"].ret_ty.shape] == [1, 256, 28, 28]


def test_the_shrunk_reducer_keeps_the_strongest_half(from_torch):
    reducer, large = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 5, 3, padding=1)
    with torch.no_grad():
        reducer.weight[[0, 3]] *= 1e-3
    net = Block(("b1", conv(6, 3)), ("b3", nn.Sequential(reducer, nn.PReLU(4), large, nn.ReLU())))
    module, _ = merged(from_torch(net, X), b1="b3")
    found = convolutions(module)["b3.0"].weight
    np.testing.assert_array_equal(found, reducer.weight.detach().numpy()[[1, 2]])


def test_a_reducer_without_full_rank(from_torch):
    reducer, large = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 5, 3, padding=1)
    nn.init.zeros_(reducer.weight)
    net = Block(("b1", conv(6, 3)), ("b3", nn.Sequential(reducer, large, nn.ReLU())))
    module, _ = merged(from_torch(net, X), b1="b3")
    assert all(np.isfinite(c.weight).all() for c in convolutions(module).values())


def test_a_pool_behind_a_block_of_one_piece_is_merged_too(from_torch, operators):
    net = nn.Sequential(
        Block(("e1", conv(64, 64)), ("e3", nn.Sequential(conv(64, 32), conv(32, 64, 3)))), nn.MaxPool2d(2)
    )
    case = from_torch(net, torch.randn(1, 64, 8, 8))
    plan = plan_merges(case.module)
    module = apply_plan(case.module, plan)
    assert [(c.name, c.kind) for c in plan.candidates] == [("0", Kind.BRANCH), ("0.e3.1.0", Kind.STREAMLINE)]
    assert operators(module) == ["nn.conv2d", "add", "nn.relu"] * 2
    case.difference(module)


REFUSED = {
    "saves nothing": ([("a", conv(6, 3)), ("b", conv(6, 5, 3))], Reason.SAVES_NOTHING),
    "no small branch": ([("a", conv(6, 3, 3)), ("b", conv(6, 5, 3))], Reason.NO_ABSORBER),
    "no large branch": (
        [("a", conv(6, 3)), ("b", nn.Sequential(conv(6, 4), conv(4, 5)))],
        Reason.NO_ABSORBER,
    ),
    "a flat kernel is not larger": (
        [("a", conv(6, 3)), ("b", conv(6, 5, (1, 3), padding=(0, 1)))],
        Reason.NO_ABSORBER,
    ),
    "the pool's window is too large": (
        [("a", pooled(6, 3, 5)), ("b", conv(6, 5, 3))],
        Reason.KERNEL_TOO_SMALL,
    ),
    "looks outside": (
        [("a", conv(6, 3, padding=1, stride=8)), ("b", conv(6, 5, 3, padding=0, stride=8))],
        Reason.NO_ABSORBER,
    ),
    "groups": ([("a", conv(6, 3)), ("b", conv(6, 6, 3, groups=2))], Reason.GROUPED),
    "groups in front": (
        [("a", conv(6, 3)), ("b", nn.Sequential(conv(6, 6, groups=6), conv(6, 5, 3)))],
        Reason.GROUPED,
    ),
    "dilated": ([("a", conv(6, 3)), ("b", conv(6, 5, 3, padding=2, dilation=2))], Reason.DILATED),
    "strides in front": (
        [("a", conv(6, 3, stride=2)), ("b", nn.Sequential(conv(6, 6, stride=2), conv(6, 5, 3)))],
        Reason.DIFFERENT_STRIDES,
    ),
    "strides": ([("a", conv(6, 3, stride=2)), ("b", conv(6, 5, 5, padding=0))], Reason.DIFFERENT_STRIDES),
    "an activation missing": (
        [("a", conv(6, 3, activation=None)), ("b", conv(6, 5, 3))],
        Reason.DIFFERENT_ACTIVATIONS,
    ),
    "other bounds": (
        [("a", conv(6, 3, activation=nn.ReLU6)), ("b", conv(6, 5, 3, nn.Hardtanh))],
        Reason.DIFFERENT_ACTIVATIONS,
    ),
    "other slopes": (
        [("a", conv(6, 3, 1, lambda: nn.LeakyReLU(0.1))), ("b", conv(6, 5, 3, lambda: nn.LeakyReLU(0.2)))],
        Reason.DIFFERENT_ACTIVATIONS,
    ),
    "a pool of any values": (
        [("a", nn.MaxPool2d(3, 1, 1)), ("b", conv(6, 5, 3))],
        Reason.DIFFERENT_ACTIVATIONS,
    ),
    "a pool alone that costs": (
        [("a", nn.MaxPool2d(3, 1, 1)), ("b", conv(6, 5, 3, None))],
        Reason.SAVES_NOTHING,
    ),
    "a pool beside nothing large": (
        [("a", nn.MaxPool2d(3, 1, 1)), ("b", nn.Sequential(conv(6, 4), conv(4, 5)))],
        Reason.NO_WEIGHTS,
    ),
    "a pool of the network's input": ([("a", pooled(6, 3)), ("b", nn.Identity())], Reason.NO_ABSORBER),
    "the input itself": ([("a", nn.Identity()), ("b", conv(6, 5, 3))], Reason.NO_WEIGHTS),
}


@pytest.mark.parametrize(("branches", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_blocks_that_are_refused(from_torch, branches, reason):
    size = {Reason.DIFFERENT_STRIDES: 9}.get(reason, 12)
    case = from_torch(Block(*branches), torch.randn(1, 6, size, size))
    found = refusal(case)
    assert found.reason is reason
    assert found.detail
    assert case.difference(apply_plan(case.module, plan_merges(case.module))) < 1e-5


def test_branches_from_different_inputs_are_refused(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(6, 3), conv(6, 5, 3)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x.sigmoid())], 1)

    refused = [r for r in plan_merges(from_torch(Net(), X).module).refusals if r.kind is Kind.BRANCH]
    assert [r.reason for r in refused] == [Reason.DIFFERENT_INPUTS]


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: (torch.cat([a, b], 1), a),
        lambda a, b: torch.cat([a, b, a], 1),
        lambda a, b: torch.cat([a, b], 1) + a.mean(),
    ],
)
def test_a_branch_that_others_read_is_refused(from_torch, join):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(6, 3), conv(6, 5, 3)

        def forward(self, x):
            return join(self.a(x), self.b(x))

    case = from_torch(Net(), X)
    assert refusal(case).reason is Reason.SEVERAL_USERS
    assert case.difference(apply_plan(case.module, plan_merges(case.module))) < 1e-5


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_a_concat_of_other_axes_is_no_block(from_torch, axis):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(6, 5), conv(6, 5, 3)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], axis)

    case = from_torch(Net(), X)
    plan = plan_merges(case.module)
    assert plan.candidates == plan.refusals == ()


def test_a_negative_axis_is_one_too(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(6, 5), conv(6, 5, 3)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], -3)

    case = from_torch(Net(), X)
    module, _ = merged(case, a="b")
    assert case.difference(module) < 1e-5


def test_a_concat_with_a_constant_is_no_block(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(6, 3), conv(6, 5, 3)
            self.extra = nn.Parameter(torch.randn(1, 2, 8, 8))

        def forward(self, x):
            return F.max_pool2d(torch.cat([self.a(x), self.extra, self.b(x)], 1), 2)

    case = from_torch(Net(), X)
    module = apply_plan(case.module, plan_merges(case.module))
    assert case.difference(module) < 1e-5


def test_dense_blocks_are_refused(from_torch, randomised):
    """M10: a concat that grows."""

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Sequential(nn.BatchNorm2d(6 + 4 * i), nn.ReLU(), conv(6 + 4 * i, 4, 3, None))
                for i in range(3)
            )

        def forward(self, x):
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x

    case = from_torch(randomised(Dense()), X)
    plan = plan_merges(case.module)
    refused = [r for r in plan.refusals if r.kind is Kind.BRANCH]
    assert [r.reason for r in refused] == [Reason.NO_WEIGHTS] * 3
    assert len({r.found_at for r in refused}) == 3
    assert case.difference(apply_plan(case.module, plan)) < 1e-5


def test_a_pool_branch_beside_a_channel_shuffle_is_refused(from_torch):
    """M10: shufflenet's block that halves the size."""

    class Shuffle(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (
                conv(6, 6, groups=2),
                conv(6, 6, 3, None, groups=6, stride=2),
                conv(6, 8, groups=2),
            )

        def forward(self, x):
            y = self.a(x).reshape(1, 2, 3, 8, 8).transpose(1, 2).reshape(1, 6, 8, 8)
            return torch.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), self.c(self.b(y))], 1))

    case = from_torch(Shuffle(), X)
    assert refusal(case).reason is Reason.NO_WEIGHTS
    assert case.difference(apply_plan(case.module, plan_merges(case.module))) < 1e-5


def test_two_blocks_with_one_name_are_told_apart(from_torch):
    """The prefix `net` is common to both; the first saves nothing, the second is merged."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            deep = nn.Sequential(conv(8, 64), conv(64, 64, 3))
            self.net = nn.ModuleDict({"a": conv(6, 3), "b": conv(6, 5, 3), "c": conv(8, 16), "d": deep})

        def forward(self, x):
            x = torch.cat([self.net["a"](x), self.net["b"](x)], 1)
            return torch.cat([self.net["c"](x), self.net["d"](x)], 1)

    case = from_torch(Net(), X)
    plan = plan_merges(case.module)
    (candidate,) = plan.candidates
    (refused,) = plan.refusals
    assert candidate.found_at != refused.found_at
    assert (refused.name, candidate.name) == ("net.a.0", "net/concat_2")
    assert set(convolutions(apply_plan(case.module, plan))) == {
        "net.a.0",
        "net.b.0",
        "net.d.0.0",
        "net.d.1.0",
    }


def test_what_cannot_be_merged_stays_at_its_place(from_torch, operators):
    """A stranger, a branch with other activations and one from another input, between those that merge."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.deep = nn.Sequential(conv(64, 64), conv(64, 64, 3))
            self.tanh, self.other = conv(64, 4, activation=nn.Tanh), conv(64, 6)
            self.pixel, self.pool = conv(64, 32), pooled(64, 3)

        def forward(self, x):
            parts = self.pixel(x), x, self.tanh(x), self.deep(x), self.other(x.sin()), self.pool(x)
            return torch.cat(parts, 1)

    case = from_torch(Net(), torch.randn(1, 64, 8, 8))
    plan = plan_merges(case.module)
    (candidate,) = plan.candidates
    assert set(candidate.removed) >= {"pixel.0", "pool.1"}
    refused = {r.name: (r.reason, r.found_at) for r in plan.refusals if r.kind is Kind.BRANCH}
    assert {name: reason for name, (reason, _) in refused.items()} == {
        "tanh.0": Reason.DIFFERENT_ACTIVATIONS,
        "other.0": Reason.DIFFERENT_INPUTS,
    }
    assert {found_at for _, found_at in refused.values()}.isdisjoint({candidate.found_at})
    module = apply_plan(case.module, plan)
    assert operators(module).count("nn.conv2d") == 4
    ours, wanted = evaluate(module, case.inputs)[0], case.expected[0]
    assert ours.shape == wanted.shape
    np.testing.assert_allclose(ours[:, 32:100], wanted[:, 32:100], atol=1e-5)
    np.testing.assert_allclose(ours[:, 164:170], wanted[:, 164:170], atol=1e-5)
    assert plan_merges(module).candidates == ()


def fire(inputs, squeeze, expand, kernel=3):
    pixel, large = conv(squeeze, expand), conv(squeeze, expand, kernel)
    return Block(("e1", pixel), ("e3", large), stem=conv(inputs, squeeze))


def test_a_fire_module_becomes_one_convolution_behind_half_a_squeeze(from_torch, operators):
    case = from_torch(nn.Sequential(fire(64, 16, 64), nn.MaxPool2d(3, 2)), torch.randn(1, 64, 15, 15))
    plan = plan_merges(case.module)
    assert [(c.name, c.kind, c.exact) for c in plan.candidates] == [
        ("0", Kind.BRANCH, False),
        ("0.e3.0", Kind.STREAMLINE, False),
    ]
    fire_merge = plan.candidates[0]
    pixels = 15 * 15
    assert fire_merge.macs_before == pixels * (64 * 16 + 16 * 64 * 10)
    assert fire_merge.macs_after == pixels * (64 * 8 + 8 * 128 * 9)
    module = apply_plan(case.module, plan)
    assert operators(module) == ["nn.conv2d", "add", "nn.relu"] * 2
    shapes = {name: c.weight.shape for name, c in convolutions(module).items()}
    assert shapes == {"0.stem.0": (8, 64, 1, 1), "0.e3.0": (128, 8, 3, 3)}
    assert reborn_layers(module) == ["0.stem.0", "0.e3.0"]
    case.difference(module)


@pytest.mark.parametrize("activation", [None, nn.ReLU])
def test_a_squeeze_with_channels_twice_loses_nothing(from_torch, activation):
    """The least-squares answer finds the channels that are gone in those that are their multiples."""
    net = Block(("e1", conv(6, 4)), ("e3", conv(6, 5, 3, bias=False)), stem=conv(8, 6, activation=activation))
    for values in net.stem[0].parameters():
        values.data[[1, 3, 4]] = 0.25 * values.data[[0, 5, 2]]
    case = from_torch(net, torch.randn(1, 8, 7, 7))
    module, merge = merged(case, e1="e3")
    assert not merge.exact
    assert convolutions(module)["stem.0"].weight.shape == (3, 8, 1, 1)
    assert case.difference(module) < 1e-4


def test_what_reads_half_a_squeeze_starts_near_what_it_was(from_torch):
    """Better than to leave the others out, on channels by chance and inputs that are normally distributed."""
    net = Block(("e1", conv(16, 32)), ("e3", conv(16, 32, 3)), stem=conv(64, 16))
    case = from_torch(net, torch.randn(1, 64, 20, 20))
    module, _ = merged(case, e1="e3")
    kept = convolutions(module)["stem.0"].weight[:, :, 0, 0]
    rows = net.stem[0].weight.detach()[:, :, 0, 0]
    dropped = [i for i, row in enumerate(rows.numpy()) if not (row == kept).all(axis=1).any()]
    with torch.no_grad():
        for name in ("e1", "e3"):
            getattr(net, name)[0].weight[:, dropped] = 0
        left_out = net(torch.from_numpy(case.inputs[0])).numpy()

    def distance(values):
        return np.linalg.norm(values - case.expected[0])

    assert len(dropped) == 8
    assert distance(evaluate(module, case.inputs)[0]) < 0.9 * distance(left_out)


def test_three_branches_on_a_squeeze_shrink_together(from_torch):
    net = Block(("e1", conv(16, 64)), ("e3", conv(16, 64, 3)), ("e5", conv(16, 64, 5)), stem=conv(64, 16))
    case = from_torch(net, torch.randn(1, 64, 9, 9))
    plan = plan_merges(case.module)
    module = apply_plan(case.module, plan)
    shapes = {name: c.weight.shape for name, c in convolutions(module).items()}
    assert shapes == {"stem.0": (8, 64, 1, 1), "e3.0": (128, 8, 3, 3), "e5.0": (64, 8, 5, 5)}
    assert set(reborn_layers(module)) == {"stem.0", "e3.0", "e5.0"}
    assert plan_merges(module).candidates == ()


@pytest.mark.parametrize("which", ["returned", "read by another", "not 1x1", "grouped"])
def test_a_squeeze_that_cannot_shrink(from_torch, which):
    stem = {"not 1x1": conv(64, 16, 3), "grouped": conv(64, 16, groups=4)}.get(which, conv(64, 16))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.e1, self.e3 = stem, conv(16, 64), conv(16, 64, 3)

        def forward(self, x):
            x = self.stem(x)
            y = torch.cat([self.e1(x), self.e3(x)], 1)
            return {"returned": (y, x), "read by another": (y, x.sin())}.get(which, y)

    case = from_torch(Net(), torch.randn(1, 64, 9, 9))
    assert refusal(case).reason is Reason.SAVES_NOTHING
    assert case.difference(apply_plan(case.module, plan_merges(case.module))) < 1e-5


def test_pixels_side_by_side_become_one_exactly(from_torch, operators):
    net = Block(("a", conv(6, 3)), ("b", conv(6, 5, bias=False)), ("c", nn.Identity()), ("d", conv(6, 4)))
    case = from_torch(net, X)
    plan = plan_merges(case.module)
    (candidate,) = plan.candidates
    assert (candidate.exact, candidate.macs_before) == (True, candidate.macs_after)
    module = apply_plan(case.module, plan)
    assert operators(module) == [*["nn.conv2d", "add", "nn.relu"] * 2, "concat"]
    assert case.difference(module) < 1e-5
    assert reborn_layers(module) == []
    refused = {r.name: r.reason for r in plan.refusals if r.kind is Kind.BRANCH}
    assert refused == {"a.0": Reason.SAVES_NOTHING, "d.0": Reason.SAVES_NOTHING}


def test_pixels_of_two_activations(from_torch):
    net = Block(("a", conv(6, 3)), ("b", conv(6, 3, activation=nn.Tanh)))
    plan = plan_merges(from_torch(net, X).module)
    assert [(r.name, r.reason) for r in plan.refusals] == [
        ("a.0", Reason.DIFFERENT_ACTIVATIONS),
        ("b.0", Reason.DIFFERENT_ACTIVATIONS),
    ]


@pytest.mark.parametrize("order", ["apb", "pab", "abp", "pa"])
def test_a_pool_between_pixels_is_dropped(from_torch, operators, order):
    branches = {"a": conv(6, 3), "b": conv(6, 5), "p": pooled(6, 4)}
    case = from_torch(Block(*[(name, branches[name]) for name in order]), X)
    plan = plan_merges(case.module)
    (candidate,) = plan.candidates
    assert not candidate.exact
    assert candidate.macs_before == candidate.macs_after
    module = apply_plan(case.module, plan)
    assert operators(module) == ["nn.conv2d", "add", "nn.relu"]
    assert reborn_layers(module) == ["a.0"]
    with torch.no_grad():
        parts = [F.relu(branches["p"][1](X)) if name == "p" else branches[name](X) for name in order]
    np.testing.assert_allclose(evaluate(module, case.inputs)[0], torch.cat(parts, 1).numpy(), atol=1e-5)


def test_a_strided_pool_between_pixels_is_refused(from_torch):
    pool = nn.Sequential(nn.MaxPool2d(2, 2), *conv(6, 4))
    case = from_torch(Block(("a", conv(6, 3, stride=2)), ("pool", pool)), X)
    plan = plan_merges(case.module)
    refused = {r.name: r.reason for r in plan.refusals if r.kind is Kind.BRANCH}
    assert refused == {"a.0": Reason.NO_ABSORBER, "pool.1": Reason.KERNEL_TOO_SMALL}
    assert case.difference(apply_plan(case.module, plan)) < 1e-5


@pytest.mark.parametrize("counts_padding", [True, False])
def test_an_average_pool_starts_as_what_it_did(from_torch, counts_padding):
    """Inside the picture exactly; at its border too if the zeros of the padding count."""
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=counts_padding)
    case = from_torch(Block(("b3", conv(6, 4, 3)), ("pool", nn.Sequential(pool, *conv(6, 2)))), X)
    module, merge = merged(case, pool="b3")
    assert not merge.exact
    ours, wanted = evaluate(module, case.inputs)[0], case.expected[0]
    inside = np.s_[..., 1:-1, 1:-1]
    np.testing.assert_allclose(ours[inside], wanted[inside], atol=1e-5)
    assert (np.abs(ours - wanted).max() < 1e-5) == counts_padding


def test_a_pool_alone_of_what_is_not_negative(from_torch, operators):
    """The block of Inception v2 that halves the size: its pool goes to the concat as it is."""
    large = nn.Sequential(conv(16, 32), conv(32, 96, 3, stride=2))
    case = from_torch(
        Block(("b3", large), ("pool", nn.MaxPool2d(3, 2, 1)), stem=nn.ReLU()), torch.randn(1, 16, 8, 8)
    )
    plan = plan_merges(case.module)
    (candidate,) = plan.candidates
    assert candidate.removed == ("max_pool2d_1",)
    module = apply_plan(case.module, plan)
    assert convolutions(module)["b3.1.0"].weight.shape == (112, 16, 3, 3)
    assert "concat" not in operators(module)
    case.difference(module)


@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.ReLU6, lambda: nn.PReLU(5)])
def test_a_pool_alone_starts_as_the_pixel_in_its_middle(from_torch, activation):
    """An identity kernel behind the absorber's activations, which leave the values as they are."""
    net = Block(("b3", conv(6, 5, 3, activation)), ("pool", nn.MaxPool2d(3, 1, 1)), stem=nn.Hardtanh(0, 3))
    module, _ = merged(from_torch(net, X), max_pool2d_1="b3")
    np.testing.assert_allclose(evaluate(module, [X.numpy()])[0][:, 5:], X.clamp(0, 3).numpy(), atol=1e-5)


def test_of_equal_kernels_the_cheaper_takes_the_pool(from_torch):
    """Inception v2: the double 3x3 has too many inputs, the 3x3 with its halved reducer few."""
    deep = nn.Sequential(conv(192, 64), conv(64, 96, 3), conv(96, 96, 3))
    net = Block(
        ("b1", conv(192, 64)),
        ("b3", nn.Sequential(conv(192, 64), conv(64, 64, 3))),
        ("deep", deep),
        ("pool", nn.Sequential(nn.AvgPool2d(3, 1, 1), *conv(192, 32))),
        stem=nn.ReLU(),
    )
    case = from_torch(net, torch.randn(1, 192, 14, 14))
    plan = plan_merges(case.module)
    assert (len(plan.candidates), plan.refusals) == (1, ())
    module = apply_plan(case.module, plan)
    shapes = {name: c.weight.shape for name, c in convolutions(module).items()}
    assert shapes["b3.0.0"] == (32, 192, 1, 1)
    assert shapes["b3.1.0"] == (160, 32, 3, 3)
    assert shapes["deep.2.0"] == (96, 96, 3, 3)
    of_deep = np.s_[:, 128:224]
    ours, wanted = evaluate(module, case.inputs)[0], case.expected[0]
    np.testing.assert_allclose(ours[of_deep], wanted[of_deep], atol=1e-4)
    assert ours.shape == wanted.shape


def test_merging_again_finds_nothing(from_torch):
    """A reducer that was halved is not halved again for a branch that was too costly."""
    net = Block(
        ("b1", conv(64, 64)),
        ("b3", nn.Sequential(conv(64, 64), conv(64, 64, 3))),
        ("pool", pooled(64, 256)),
        ("e1", conv(64, 64, activation=nn.Tanh)),
        stem=nn.ReLU(),
    )
    case = from_torch(net, torch.randn(1, 64, 8, 8))
    plan = plan_merges(case.module)
    assert [c.kind for c in plan.candidates] == [Kind.BRANCH]
    refused = {r.name: r.reason for r in plan.refusals if r.kind is Kind.BRANCH}
    assert refused == {"pool.1": Reason.SAVES_NOTHING, "e1.0": Reason.DIFFERENT_ACTIVATIONS}
    module = apply_plan(case.module, plan)
    assert convolutions(module)["b3.0.0"].weight.shape == (32, 64, 1, 1)
    assert plan_merges(module).candidates == ()
