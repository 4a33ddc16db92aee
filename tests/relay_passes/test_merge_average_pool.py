"""Average pools behind linear convolutions: what is merged computes the same, the rest says why not."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from tvm import relax

from pipeline.twin import evaluate
from relay_passes import Kind, Reason, plan_merges, reborn_layers
from relay_passes.convolution import Convolution
from relay_passes.graph import Graph, shape_of
from relay_passes.merge import next_sweep
from relay_passes.merge_average_pool import MergeAveragePool, find_average_pools
from relay_passes.merge_plan import MergePlan


@pytest.fixture
def merged(operators):
    """Merge what can be merged; outputs must stay. Returns operators, reasons of refusals, convolution."""

    def merge(case):
        module = case.module
        while sweep := next_sweep(module, find_average_pools, lambda merge: True):
            assert all(merge.exact for merge in sweep.merges)
            module = sweep.module
        relax.analysis.well_formed(module)
        assert case.difference(module) < 1e-5
        assert reborn_layers(module) == []
        graph = Graph(module)
        found = [Convolution.at(graph, var) for var in graph.layers]
        refusals = find_average_pools(graph).refusals
        return operators(module), [r.reason for r in refusals], next(c for c in found if c is not None)

    return merge


MERGED = {
    "3x3, 2x2/2": (nn.Conv2d(4, 6, 3, padding=1), nn.AvgPool2d(2), ((4, 4), (2, 2), (1,) * 4, (1, 1))),
    "3x3, 3x3/2": (nn.Conv2d(4, 6, 3), nn.AvgPool2d(3, 2), ((5, 5), (2, 2), (0,) * 4, (1, 1))),
    "3x3/2, 2x2/2": (nn.Conv2d(4, 6, 3, 2, 1), nn.AvgPool2d(2), ((5, 5), (4, 4), (1, 1, 0, 0), (1, 1))),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), nn.AvgPool2d(2), ((4, 4), (2, 2), (0,) * 4, (1, 1))),
    "1x1/2, dilated": (nn.Conv2d(4, 6, 1, 2), nn.AvgPool2d(2), ((2, 2), (4, 4), (0,) * 4, (2, 2))),
    "dilation and stride 2": (
        nn.Conv2d(4, 6, 3, 2, dilation=2),
        nn.AvgPool2d(2),
        ((4, 4), (4, 4), (0,) * 4, (2, 2)),
    ),
    "other axes": (
        nn.Conv2d(4, 6, (3, 1), padding=(1, 0)),
        nn.AvgPool2d((2, 1), (2, 1)),
        ((4, 1), (2, 1), (1, 0, 1, 0), (1, 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("convolution", "pool", "expected"), MERGED.values(), ids=MERGED.keys())
def test_one_convolution_computes_both(from_torch, merged, convolution, pool, expected):
    case = from_torch(nn.Sequential(convolution, pool), torch.randn(2, 4, 18, 18))
    left, refusals, found = merged(case)
    assert left == ["nn.conv2d"] + ["add"] * (convolution.bias is not None)
    assert refusals == []
    assert (found.kernel, found.strides, found.padding, found.dilation) == expected


EXCHANGED = {
    "2x2/2": (nn.Conv2d(4, 6, 1), nn.AvgPool2d(2)),
    "3x3/2, grouped": (nn.Conv2d(4, 6, 1, groups=2), nn.AvgPool2d(3, 2)),
    "padding without a bias": (nn.Conv2d(4, 6, 1, bias=False), nn.AvgPool2d(3, 3, 1)),
    "padding that isn't counted": (nn.Conv2d(4, 6, 1), nn.AvgPool2d(2, 2, 1, count_include_pad=False)),
    "the last window over the edge": (nn.Conv2d(4, 6, 1, bias=False), nn.AvgPool2d(3, 2, ceil_mode=True)),
    "two pools": (nn.Conv2d(4, 6, 1), nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2))),
}  # fmt: skip


@pytest.mark.parametrize(("convolution", "pools"), EXCHANGED.values(), ids=EXCHANGED.keys())
def test_a_1x1_convolution_goes_behind_the_pool(from_torch, merged, convolution, pools):
    case = from_torch(nn.Sequential(convolution, pools), torch.randn(2, 4, 18, 18))
    left, refusals, found = merged(case)
    count = len(pools) if isinstance(pools, nn.Sequential) else 1
    bias = ["add"] * (convolution.bias is not None)
    assert left == ["nn.avg_pool2d"] * count + ["nn.conv2d", *bias]
    assert refusals == []
    assert (found.kernel, found.strides) == ((1, 1), (1, 1))
    saved = plan_merges(case.module).candidates[0]
    assert saved.macs_after < saved.macs_before / 3
    assert saved.parameters_after == saved.parameters_before


def test_pools_in_a_row_are_one_merge(from_torch, merged, built):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(2), nn.AvgPool2d(2), nn.ReLU())
    case = from_torch(net, torch.randn(1, 3, 16, 16))
    (merge,) = find_average_pools(Graph(case.module)).merges
    assert (merge.name, merge.kind, merge.exact) == ("0", Kind.STREAMLINE, True)
    assert merge.removed == ("avg_pool2d_1", "avg_pool2d_2")
    assert merge.found_at == "0"
    left, _, found = merged(case)
    assert left == ["nn.conv2d", "add", "nn.relu"]
    assert (found.kernel, found.strides) == ((6, 6), (4, 4))


def test_the_pass_makes_what_the_plan_names(from_torch, operators):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2))
    case = from_torch(net, torch.randn(1, 3, 16, 16))
    first, _ = find_average_pools(Graph(case.module)).merges
    module = MergeAveragePool(MergePlan(candidates=(first.candidate(),)))(case.module)
    assert operators(module) == ["nn.conv2d", "add", "nn.relu", "nn.conv2d", "add", "nn.avg_pool2d"]
    assert case.difference(module) < 1e-5


LEFT = {
    "a bias and a padded pool": (nn.Conv2d(4, 6, 1), nn.AvgPool2d(2, 2, 1), Reason.ZERO_PADDING),
    "padding that isn't counted": (
        nn.Conv2d(4, 6, 1, 2, bias=False),
        nn.AvgPool2d(2, 2, 1, count_include_pad=False),
        Reason.ZERO_PADDING,
    ),
    "a 3x3 kernel reads into the pool's padding": (
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.AvgPool2d(3, 2, 1),
        Reason.ZERO_PADDING,
    ),
    "the last window over the edge": (
        nn.Conv2d(4, 6, 1),
        nn.AvgPool2d(2, ceil_mode=True),
        Reason.ZERO_PADDING,
    ),
    "more multiply-adds": (nn.Conv2d(4, 6, 1, 2), nn.AvgPool2d(3, 2), Reason.SAVES_NOTHING),
    "as many places": (nn.Conv2d(4, 6, 1, bias=False), nn.AvgPool2d(3, 1, 1), Reason.SAVES_NOTHING),
    "an even dilation fills the gaps": (
        nn.Conv2d(4, 6, 3, dilation=2),
        nn.AvgPool2d(3, 1),
        Reason.SAVES_NOTHING,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("convolution", "pool", "reason"), LEFT.values(), ids=LEFT.keys())
def test_pools_that_are_refused(from_torch, merged, convolution, pool, reason):
    case = from_torch(nn.Sequential(convolution, pool), torch.randn(1, 4, 17, 17))
    left, refusals, _ = merged(case)
    assert "nn.avg_pool2d" in left
    assert refusals == [reason]


OTHERS = {
    "an activation in between": nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AvgPool2d(2)),
    "a max pool": nn.Sequential(nn.Conv2d(4, 6, 3), nn.MaxPool2d(2)),
    "the whole picture": nn.Sequential(nn.Conv2d(4, 6, 1), nn.AvgPool2d(16)),
    "a mean": nn.Sequential(nn.Conv2d(4, 6, 1), nn.AdaptiveAvgPool2d(1)),
    "the network's input": nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 6, 3)),
}


@pytest.mark.parametrize("net", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_left_to_other_passes(from_torch, net):
    findings = find_average_pools(Graph(from_torch(net, torch.randn(1, 4, 16, 16)).module))
    assert findings.merges == findings.refusals == ()


@pytest.mark.parametrize(
    "then",
    [
        lambda y: (F.avg_pool2d(y, 2), y),
        lambda y: F.avg_pool2d(y, 2) * F.max_pool2d(y, 2),
        lambda y: (lambda p: F.avg_pool2d(p, 2) * F.max_pool2d(p, 2))(F.avg_pool2d(y, 2)),
    ],
)
def test_what_others_read_stays(from_torch, merged, then):
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return then(self.conv(x))

    left, _, _ = merged(from_torch(Forked(), torch.randn(1, 3, 18, 18)))
    assert left.count("nn.avg_pool2d") == 1


def test_the_other_readers_of_a_shared_weight_keep_it(from_torch, merged):
    """M2."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(F.avg_pool2d(self.conv(x), 2))

    left, _, _ = merged(from_torch(Shared(), torch.randn(1, 3, 16, 16)))
    assert left == ["nn.conv2d", "add", "nn.conv2d", "add"]


def test_half_precision_stays_half(built):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 3, 3)).astype("float16")

    def compute(builder, x):
        return builder.emit(
            relax.op.nn.avg_pool2d(builder.emit(relax.op.nn.conv2d(x, relax.const(kernel))), 2, 2)
        )

    sweep = next_sweep(built((1, 2, 8, 8), compute, dtype="float16"), find_average_pools, lambda merge: True)
    (layer,) = Graph(sweep.module).layers
    assert Convolution.at(Graph(sweep.module), layer).weight.dtype == "float16"
    assert str(layer.ty.dtype) == "float16"


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.tuples(*[st.sampled_from([0, 0, 0, 1, 2])] * 4)


@settings(max_examples=250, deadline=None)
@given(
    size=st.tuples(st.integers(6, 16), st.integers(6, 16)),
    kernel=pairs,
    options=st.fixed_dictionaries({"strides": pairs, "padding": paddings, "dilation": pairs}),
    pool=st.fixed_dictionaries(
        {
            "pool_size": pairs,
            "strides": pairs,
            "padding": paddings,
            "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
            "ceil_mode": st.booleans(),
            "count_include_pad": st.booleans(),
        }
    ),
    groups=st.sampled_from([1, 2]),
    has_bias=st.booleans(),
)
def test_merges_are_exact(built, size, kernel, options, pool, groups, has_bias):
    """Against the unmerged pair, for everything that is merged."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 2 // groups, *kernel)).astype("float32")
    widths = pool["padding"]
    reach = [(w - 1) * e + 1 for w, e in zip(pool["pool_size"], pool["dilation"], strict=True)]
    assume(all(widths[i] < reach[i % 2] for i in range(4)))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, options["dilation"], strict=True)]
    padded = [size[i] + options["padding"][i] + options["padding"][i + 2] for i in (0, 1)]
    convolved = [(p - e) // s + 1 for p, e, s in zip(padded, extent, options["strides"], strict=True)]
    assume(min(convolved) > 0)
    assume(all(convolved[i] + widths[i] + widths[i + 2] >= reach[i] for i in (0, 1)))

    def compute(builder, x):
        y = builder.emit(relax.op.nn.conv2d(x, relax.const(weight), groups=groups, **options))
        if has_bias:
            y = builder.emit(relax.op.add(y, relax.const(np.full((1, 4, 1, 1), 3.0, "float32"))))
        return builder.emit(relax.op.nn.avg_pool2d(y, **pool))

    module = built((2, 2, *size), compute)
    sweep = next_sweep(module, find_average_pools, lambda merge: True)
    if sweep is None:
        return
    x = rng.normal(size=(2, 2, *size)).astype("float32")
    (expected,), (value,) = evaluate(module, [x]), evaluate(sweep.module, [x])
    np.testing.assert_allclose(value, expected, atol=1e-4)
    assert sweep.changes[0].macs <= 0
    assert shape_of(Graph(sweep.module).outputs[0]) == expected.shape
