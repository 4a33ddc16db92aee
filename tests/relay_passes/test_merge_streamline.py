"""Cases M6 to M9: chains of a convolution, activations, LRNs and pools."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from tvm import relax

from pipeline.importer import load_network
from relay_passes import Kind, Reason, apply_plan, plan_merges, reborn_layers
from relay_passes.convolution import Convolution
from relay_passes.graph import Graph, shape_of


@pytest.fixture
def streamlined(operators):
    """Apply the whole plan; shapes must stay. Returns the operators left, the plan, the module."""

    def merge(case):
        plan = plan_merges(case.module)
        module = apply_plan(case.module, plan)
        relax.analysis.well_formed(module)
        case.difference(module)
        return operators(module), plan, module

    return merge


def _chain(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *layers)


LRN, POOL, RELU = nn.LocalResponseNorm(3, 0.1), nn.MaxPool2d(2), nn.ReLU()
X = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("layers", "removed"),
    [
        ((RELU, POOL, LRN), ("max_pool2d_1", "lrn_1")),
        ((RELU, LRN, POOL), ("lrn_1", "max_pool2d_1")),
        ((POOL, RELU), ("max_pool2d_1",)),
        ((LRN,), ("lrn_1",)),
        ((RELU, POOL, LRN, nn.ReLU6(), nn.AvgPool2d(2)), ("max_pool2d_1", "lrn_1", "avg_pool2d_1")),
        ((nn.PReLU(4), POOL, nn.MaxPool2d(3, 2, 1)), ("max_pool2d_1", "max_pool2d_2")),
    ],
)
def test_pools_and_lrns_go_and_activations_stay(from_torch, streamlined, layers, removed):
    """M8, and the order of what is removed is the chain's."""
    left, plan, module = streamlined(from_torch(_chain(*layers), X))
    (candidate,) = plan.candidates
    assert (candidate.name, candidate.kind, candidate.exact) == ("0", Kind.STREAMLINE, False)
    assert candidate.removed == removed
    assert candidate.found_at == removed[-1]
    activations = {nn.ReLU: "nn.relu", nn.ReLU6: "clip", nn.PReLU: "nn.prelu"}
    kept = [activations[type(layer)] for layer in layers if type(layer) in activations]
    assert left == ["nn.conv2d", "add", *kept]
    assert reborn_layers(module) == ["0"]


def test_what_stands_behind_the_last_pool_keeps_its_place(from_torch, streamlined):
    left, plan, _ = streamlined(from_torch(_chain(POOL, RELU, nn.Conv2d(4, 4, 3), nn.Sigmoid()), X))
    assert left == ["nn.conv2d", "add", "nn.relu", "nn.conv2d", "add", "sigmoid"]
    assert plan.candidates[0].layers[-1] == "max_pool2d_1"


def test_the_reborn_convolution_is_the_old_one_in_the_middle_of_the_window(from_torch):
    net = _chain(RELU, nn.MaxPool2d(3, 2, 1))
    case = from_torch(net, torch.randn(1, 3, 16, 16))
    module = apply_plan(case.module, plan_merges(case.module))
    with torch.no_grad():
        middle = F.relu(net[0](torch.from_numpy(case.inputs[0])))[:, :, ::2, ::2]
    expected = type(case)(module, case.inputs, (middle.numpy(),))
    assert expected.difference() < 1e-5


def test_batch_norm_is_folded_before(from_torch, streamlined, randomised):
    net = randomised(_chain(nn.BatchNorm2d(4), RELU, POOL))
    left, plan, _ = streamlined(from_torch(net, X))
    assert left == ["nn.conv2d", "add", "nn.relu"]
    assert [c.kind for c in plan.candidates] == [Kind.FOLD, Kind.FOLD, Kind.STREAMLINE]


@pytest.mark.parametrize(
    "options", [{"groups": 4}, {"dilation": 2, "stride": 2}, {"stride": 2}, {"bias": False}]
)
def test_any_convolution_takes_a_pool(from_torch, streamlined, options):
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=2, **options), RELU, POOL)
    left, _, _ = streamlined(from_torch(net, torch.zeros(1, 4, 20, 20)))
    assert "nn.max_pool2d" not in left


def test_a_dilated_convolution_that_would_skip_inputs_is_refused(from_torch, streamlined):
    """M9: with stride 2 all taps of a dilation by 2 fall on even rows."""
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=2, dilation=2), RELU, POOL)
    left, plan, _ = streamlined(from_torch(net, torch.zeros(1, 4, 20, 20)))
    assert "nn.max_pool2d" in left
    assert [refusal.reason for refusal in plan.refusals] == [Reason.DILATED]


def test_alexnets_first_pool_keeps_27(from_torch, streamlined):
    """M7: the crop lets the convolution stand where the middle of the pool's window stood."""
    net = nn.Sequential(nn.Conv2d(3, 4, 11, 4), RELU, nn.MaxPool2d(3, 2))
    case = from_torch(net, torch.randn(1, 3, 227, 227))
    left, plan, module = streamlined(case)
    assert left == ["strided_slice", "nn.conv2d", "add", "nn.relu"]
    assert plan.candidates[0].macs_after < plan.candidates[0].macs_before / 3.9
    with torch.no_grad():
        middle = net[:2](torch.from_numpy(case.inputs[0]))[:, :, 1::2, 1::2]
    assert middle.shape[2:] == (27, 27)
    assert type(case)(module, case.inputs, (middle.numpy(),)).difference() < 1e-5


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2), nn.MaxPool2d((1, 2))], ids=str)
def test_a_kernel_that_would_leave_inputs_unread_is_refused(from_torch, streamlined, pool):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), RELU, pool)
    left, plan, _ = streamlined(from_torch(net, torch.zeros(1, 3, 15, 15)))
    assert "nn.max_pool2d" in left
    (refusal,) = plan.refusals
    assert (refusal.name, refusal.layers) == ("max_pool2d_1", ("relu_1", "max_pool2d_1"))
    assert (refusal.kind, refusal.reason) == (Kind.STREAMLINE, Reason.KERNEL_TOO_SMALL)
    window = "x".join(
        map(str, pool.kernel_size if isinstance(pool.kernel_size, tuple) else (pool.kernel_size,) * 2)
    )
    assert refusal.detail == f"0 is 1x1, the window {window}: inputs would stay unread"


def test_a_small_kernel_takes_a_pool_without_stride(from_torch, streamlined):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), RELU, nn.MaxPool2d(3, 1, 1))
    assert streamlined(from_torch(net, torch.zeros(1, 3, 15, 15)))[0] == ["nn.conv2d", "add", "nn.relu"]


def test_an_lrn_goes_though_the_pool_behind_it_stays(from_torch, streamlined):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), LRN, nn.MaxPool2d(3, 2))
    left, plan, _ = streamlined(from_torch(net, torch.zeros(1, 3, 15, 15)))
    assert left == ["nn.conv2d", "add", "nn.max_pool2d"]
    assert plan.candidates[0].removed == ("lrn_1",)
    assert [refusal.reason for refusal in plan.refusals] == [Reason.KERNEL_TOO_SMALL]


def test_resnets_stem_and_first_block_are_the_papers():
    """conv1, BN, ReLU and the pool become 7x7/4; in res2a branches 1 and 2a to 2c lose their BN."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    module = load_network(folder / "light_resnet50.onnx").module
    plan = plan_merges(module)
    block = [f"gpu_0/res2_0_branch{branch}" for branch in ("1", "2a", "2b", "2c")]
    folds = {c.layers[0]: c.name for c in plan.candidates if c.kind is Kind.FOLD}
    assert {layer: folds[layer] for layer in block} == {layer: f"{layer}_bn" for layer in block}
    (stem,) = (c for c in plan.candidates if c.kind is Kind.STREAMLINE)
    assert (stem.name, stem.removed) == ("gpu_0/conv1", ("n3",))

    merged = Graph(apply_plan(module, plan))
    found = {c.name: c for var in merged.layers if (c := Convolution.at(merged, var)) is not None}
    conv1 = found["gpu_0/conv1"]
    assert (conv1.kernel, conv1.strides, shape_of(conv1.var)) == ((7, 7), (4, 4), (1, 64, 56, 56))
    start = found[block[0]].source
    assert start.same_as(found[block[1]].source)
    assert merged.call(start, "nn.relu") is not None


@pytest.mark.parametrize("layer", [nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(16), nn.MaxPool2d(16)])
def test_global_pooling_is_refused(from_torch, streamlined, layer):
    left, plan, _ = streamlined(from_torch(_chain(RELU, layer), X))
    assert len(left) == 4
    assert [refusal.reason for refusal in plan.refusals] == [Reason.GLOBAL_POOL]


class Forked(nn.Module):
    """M6: who else reads what."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.then = nn.Conv2d(3, 4, 3, padding=1), forward

    def forward(self, x):
        return self.then(self.conv(x))


@pytest.mark.parametrize(
    "then",
    [
        lambda y: (F.max_pool2d(F.relu(y), 2), y),
        lambda y: F.max_pool2d(F.relu(y), 2) * F.avg_pool2d(y, 2),
        lambda y: (lambda r: (F.max_pool2d(r, 2), r))(F.relu(y)),
        lambda y: (lambda r: (F.max_pool2d(r, 2), F.max_pool2d(r, 3)))(F.relu(y)),
    ],
)
def test_a_chain_that_others_read_is_refused(from_torch, streamlined, then):
    case = from_torch(Forked(then), torch.randn(1, 3, 16, 16))
    _, plan, module = streamlined(case)
    assert plan.candidates == ()
    assert {refusal.reason for refusal in plan.refusals} == {Reason.SEVERAL_USERS}
    assert case.difference(module) < 1e-5


@pytest.mark.parametrize(
    "then",
    [
        lambda y: (lambda p: F.relu(p) + torch.sigmoid(p))(F.max_pool2d(y, 2)),
        lambda y: (lambda p: (p, F.relu(p)))(F.max_pool2d(y, 2)),
        lambda y: (lambda p: (p, p))(F.max_pool2d(y, 2)),
        lambda y: (lambda p: p + p)(F.max_pool2d(y, 2)),
    ],
)
def test_a_pool_with_several_readers_merges(from_torch, streamlined, then):
    left, plan, _ = streamlined(from_torch(Forked(then), X))
    assert "nn.max_pool2d" not in left
    assert [candidate.name for candidate in plan.candidates] == ["conv"]


class Residual(nn.Module):
    """M6: two convolutions and how a sum and a pool join them."""

    def __init__(self, then):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.then = then

    def forward(self, x):
        return self.then(self.a(x), self.b)


@pytest.mark.parametrize(
    ("then", "detail"),
    [
        (lambda y, b: F.max_pool2d(y + b(y), 2), "it reads the sum of a and b"),
        (lambda y, b: F.max_pool2d(F.relu(F.relu(y) + b(y)), 2), "it reads the sum of a and b"),
        (
            lambda y, b: F.max_pool2d(F.relu(y), 2) + F.interpolate(b(y), scale_factor=0.5),
            "it is the shortcut of the sum of max_pool2d_1 and resize2d_1",
        ),
        (
            lambda y, b: F.relu(F.max_pool2d(y, 2)) + b(y)[:, :, ::2, ::2],
            "it is the shortcut of the sum of max_pool2d_1 and strided_slice_2",
        ),
    ],
)
def test_a_pool_inside_a_residual_is_refused(from_torch, streamlined, then, detail):
    case = from_torch(Residual(then), torch.randn(1, 3, 16, 16))
    _, plan, module = streamlined(case)
    assert plan.candidates == ()
    assert [(r.reason, r.detail) for r in plan.refusals] == [(Reason.RESIDUAL, detail)]
    assert case.difference(module) < 1e-5


def test_a_residual_sum_behind_a_pool_reads_the_reborn_convolution(from_torch, streamlined):
    def then(y, b):
        y = F.max_pool2d(y, 2)
        return F.relu(y + b(y))

    left, plan, _ = streamlined(from_torch(Residual(then), X))
    assert left == ["nn.conv2d", "add", "nn.conv2d", "add", "add", "nn.relu"]
    assert [candidate.name for candidate in plan.candidates] == ["a"]


def test_a_pool_of_the_input_is_refused(from_torch, streamlined):
    left, plan, _ = streamlined(from_torch(nn.Sequential(POOL, nn.Conv2d(3, 4, 3)), X))
    assert left == ["nn.max_pool2d", "nn.conv2d", "add"]
    assert [refusal.reason for refusal in plan.refusals] == [Reason.NO_CONVOLUTION]


def test_two_convolutions_with_one_weight_merge_apart(from_torch, streamlined):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return self.conv(F.max_pool2d(self.conv(x), 2))

    left, _, module = streamlined(from_torch(Shared(), X))
    assert left == ["nn.conv2d", "add", "nn.conv2d", "add"]
    graph = Graph(module)
    found = [Convolution.at(graph, var) for var in graph.layers]
    assert [c.strides for c in found if c is not None] == [(2, 2), (1, 1)]
    assert reborn_layers(module) == ["conv"]


def test_a_convolution_with_computed_weights_takes_nothing(built):
    def compute(builder, x):
        weight = builder.emit(relax.op.reshape(x, (4, 3, 2, 2)))
        image = relax.const(np.ones((1, 3, 8, 8), "float32"))
        return relax.op.nn.max_pool2d(builder.emit(relax.op.nn.conv2d(image, weight)), 2)

    plan = plan_merges(built((48,), compute))
    assert plan.candidates == ()
    assert [refusal.reason for refusal in plan.refusals] == [Reason.DYNAMIC]
