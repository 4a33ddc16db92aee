"""Cases M1 to M4, and every way in which a scale or a shift is or is not folded."""

import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn
from torch.nn import functional as F
from tvm import relax

from relay_passes import Kind, Reason, apply_plan, exact_only, plan_merges
from relay_passes.fold_batch_norm import find_folds
from relay_passes.graph import Graph


@pytest.fixture
def folded(operators):
    """Fold what can be folded; the outputs must stay. Returns operators left and reasons of refusals."""

    def fold(case):
        plan = plan_merges(case.module, choice=exact_only)
        assert {candidate.kind for candidate in plan.candidates} <= {Kind.FOLD}
        module = apply_plan(case.module, plan)
        relax.analysis.well_formed(module)
        assert case.difference(module) < 1e-5
        return operators(module), {r.name: r.reason for r in plan.refusals if r.kind is Kind.FOLD}

    return fold


CONVOLUTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4, "bias": False},
    "dilated": {"dilation": 2, "padding": 2},
    "strided": {"stride": 2, "padding": (0, 1)},
}
convolutions = pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())


@convolutions
def test_batch_norm_behind_a_convolution(from_torch, randomised, folded, options):
    net = randomised(nn.Sequential(nn.Conv2d(4, 8, 3, **options), nn.BatchNorm2d(8), nn.ReLU()))
    left, refusals = folded(from_torch(net, torch.randn(1, 4, 9, 9)))
    assert left == ["nn.conv2d", "add", "nn.relu"]
    assert refusals == {}


@convolutions
def test_batch_norm_in_front_of_a_convolution(from_torch, randomised, folded, options):
    net = randomised(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, **options)))
    left, refusals = folded(from_torch(net, torch.randn(1, 4, 9, 9)))
    if "padding" in options:
        bias = ["add"] if options.get("bias", True) else []
        assert left == ["multiply", "add", "nn.conv2d", *bias]
        assert refusals["0.shift"] is Reason.ZERO_PADDING
    else:
        assert left == ["nn.conv2d", "add"]
        assert refusals == {}


def test_a_scale_alone_crosses_zero_padding(from_onnx, folded):
    rng = np.random.default_rng(0)
    weights = {
        "s.scale": rng.normal(size=(4, 1, 1)).astype("float32"),
        "c.weight": rng.normal(size=(6, 2, 3, 3)).astype("float32"),
    }
    nodes = [
        make_node("Mul", ["x", "s.scale"], ["s"]),
        make_node("Conv", ["s", "c.weight"], ["y"], pads=[1, 1, 1, 1], group=2),
    ]
    x = rng.normal(size=(1, 4, 5, 5)).astype("float32")
    assert folded(from_onnx(nodes, {"x": x}, weights))[0] == ["nn.conv2d"]


def test_caffes_batch_norm_and_scale_fold_together(from_onnx, folded):
    rng = np.random.default_rng(0)
    weights = {
        "c.weight": rng.normal(size=(3, 2, 3, 3)).astype("float32"),
        "bn.s": np.ones(3, "float32"),
        "bn.b": np.zeros(3, "float32"),
        "bn.mean": rng.normal(size=3).astype("float32"),
        "bn.var": rng.uniform(0.5, 2, size=3).astype("float32"),
        "sc.w": rng.normal(size=(3, 1, 1)).astype("float32"),
        "sc.b": rng.normal(size=(3, 1, 1)).astype("float32"),
    }
    nodes = [
        make_node("Conv", ["x", "c.weight"], ["c"]),
        make_node("BatchNormalization", ["c", "bn.s", "bn.b", "bn.mean", "bn.var"], ["n"]),
        make_node("Mul", ["n", "sc.w"], ["m"]),
        make_node("Add", ["sc.b", "m"], ["a"]),
        make_node("Relu", ["a"], ["y"]),
    ]
    x = rng.normal(size=(2, 2, 6, 6)).astype("float32")
    left, refusals = folded(from_onnx(nodes, {"x": x}, weights))
    assert left == ["nn.conv2d", "add", "nn.relu"]
    assert refusals == {}


class Scaled(nn.Module):
    """A convolution, what stands between, a scale."""

    def __init__(self, scale, *between, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=bias)
        self.between = nn.Sequential(*between)
        self.scale = nn.Parameter(torch.tensor(scale).reshape(1, -1, 1, 1))

    def forward(self, x):
        return self.between(self.conv(x)) * self.scale


POSITIVE, MIXED = [0.5, 2.0, 0.0, 3.0], [0.5, -2.0, 1.0, 3.0]
HOMOGENEOUS = [nn.ReLU(), nn.LeakyReLU(0.1), nn.PReLU(4), nn.PReLU()]


@pytest.mark.parametrize("activation", HOMOGENEOUS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_positive_scale_crosses_a_relu(from_torch, folded, activation, bias):
    left, _ = folded(from_torch(Scaled(POSITIVE, activation, bias=bias), torch.randn(1, 3, 6, 6)))
    assert "multiply" not in left


@pytest.mark.parametrize("activation", HOMOGENEOUS, ids=str)
def test_a_negative_scale_does_not_cross_a_relu(from_torch, folded, activation):
    left, refusals = folded(from_torch(Scaled(MIXED, activation), torch.randn(1, 3, 6, 6)))
    assert left[-1] == "multiply"
    assert refusals == {"scale": Reason.SIGN}


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.ReLU6(), nn.Tanh(), nn.SiLU()], ids=str)
def test_a_scale_does_not_cross_other_activations(from_torch, folded, activation):
    left, refusals = folded(from_torch(Scaled(POSITIVE, activation), torch.randn(1, 3, 6, 6)))
    assert left[-1] == "multiply"
    assert list(refusals.values()) == [Reason.NOT_LINEAR]


def test_a_shift_does_not_cross_a_relu(from_torch, randomised, folded):
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    left, refusals = folded(from_torch(net, torch.randn(1, 3, 6, 6)))
    assert left == ["nn.conv2d", "add", "nn.relu", "add"]
    assert refusals == {"2.shift": Reason.NOT_LINEAR}


POOLS = {
    "max": (nn.MaxPool2d(2), True, True),
    "max with padding": (nn.MaxPool2d(3, 2, 1), True, True),
    "average": (nn.AvgPool2d(2), True, True),
    "average with padding": (nn.AvgPool2d(3, 2, 1), False, True),
    "average without it": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), True, True),
    "average ceil": (nn.AvgPool2d(2, ceil_mode=True), False, True),
}


@pytest.mark.parametrize(("pool", "shift_crosses", "_scale_crosses"), POOLS.values(), ids=POOLS.keys())
def test_batch_norm_in_front_of_a_pool_and_a_convolution(
    from_torch, randomised, folded, pool, shift_crosses, _scale_crosses
):
    net = randomised(nn.Sequential(nn.BatchNorm2d(3), pool, nn.Conv2d(3, 4, 3)))
    left, refusals = folded(from_torch(net, torch.randn(1, 3, 13, 13)))
    assert ("multiply" not in left) == shift_crosses
    assert refusals.get("0.shift") is (None if shift_crosses else Reason.ZERO_PADDING)


def test_a_negative_scale_does_not_cross_a_max_pool(from_torch, randomised, folded):
    net = randomised(nn.Sequential(nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3)))
    net[0].weight.data[1] = -1
    left, refusals = folded(from_torch(net, torch.randn(1, 3, 8, 8)))
    assert left == ["multiply", "nn.max_pool2d", "nn.conv2d", "add"]
    assert refusals == {"0": Reason.SIGN}


class TwoUsers(nn.Module):
    """M1: a convolution's output read by batch norm and another layer, or leaving the network."""

    def __init__(self, use):
        super().__init__()
        self.conv, self.bn, self.use = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), use

    def forward(self, x):
        y = self.conv(x)
        return self.use(y, self.bn(y))


@pytest.mark.parametrize(
    "use",
    [
        lambda y, normed: normed + F.relu(y),
        lambda y, normed: (normed, y),
        lambda y, normed: (y, normed, y),
        lambda y, normed: torch.cat([normed, y], 1),
    ],
)
def test_a_convolution_with_other_readers_keeps_its_norm(from_torch, randomised, folded, use):
    left, refusals = folded(from_torch(randomised(TwoUsers(use)), torch.randn(1, 3, 6, 6)))
    assert left.count("multiply") == 1
    assert refusals["bn"] is Reason.SEVERAL_USERS


@pytest.mark.parametrize(
    "use", [lambda _, normed: normed + F.relu(normed), lambda _, normed: (normed, normed), lambda _, n: n + n]
)
def test_a_norm_with_several_readers_folds(from_torch, randomised, folded, use):
    left, refusals = folded(from_torch(randomised(TwoUsers(use)), torch.randn(1, 3, 6, 6)))
    assert "multiply" not in left
    assert refusals == {}


def test_a_norm_that_several_layers_read_does_not_fold_forward(from_torch, randomised, folded):
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn, self.a, self.b = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            y = self.bn(x)
            return self.a(y) + self.b(y)

    left, refusals = folded(from_torch(randomised(Forked()), torch.randn(1, 3, 6, 6)))
    assert left[:2] == ["multiply", "add"]
    assert refusals["bn.shift"] is Reason.SEVERAL_USERS


def test_two_convolutions_with_one_weight(from_torch, randomised, folded):
    """M2: what folds into one leaves the other as it was."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.bn(self.conv(x))
            return self.conv(F.relu(y)), y

    left, refusals = folded(from_torch(randomised(Shared()), torch.randn(1, 3, 6, 6)))
    assert "multiply" not in left
    assert refusals == {}


def test_norms_on_both_sides_of_one_convolution(from_torch, randomised, folded):
    net = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    )
    left, refusals = folded(from_torch(randomised(net), torch.randn(1, 3, 9, 9)))
    assert left == ["nn.conv2d", "add", "nn.conv2d", "add"]
    assert refusals == {}


def test_a_residual_block(from_torch, randomised, folded):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
            self.b = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))

        def forward(self, x):
            return F.relu(self.b(self.a(x)) + x)

    left, _ = folded(from_torch(randomised(Residual()), torch.randn(1, 4, 6, 6)))
    assert left == ["nn.conv2d", "add", "nn.relu", "nn.conv2d", "add", "add", "nn.relu"]


BEHIND = {
    "conv1d": (nn.Conv1d(4, 6, 3, padding=1, groups=2), nn.BatchNorm1d(6), (2, 4, 9)),
    "conv3d": (nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), (1, 2, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(4), (1, 3, 6, 6)),
    "transposed, groups": (
        nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2),
        nn.BatchNorm2d(6),
        (2, 4, 5, 5),
    ),
    "transposed, depthwise": (nn.ConvTranspose2d(4, 4, 2, 2, groups=4), nn.BatchNorm2d(4), (1, 4, 5, 5)),
    "transposed, one axis": (nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4), (1, 3, 6)),
    "dense": (nn.Linear(3, 4), nn.BatchNorm1d(4), (2, 3)),
    "dense without bias": (nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), (5, 3)),
}


@pytest.mark.parametrize(("layer", "norm", "shape"), BEHIND.values(), ids=BEHIND.keys())
def test_batch_norm_behind_other_layers(from_torch, randomised, folded, layer, norm, shape):
    net = randomised(nn.Sequential(layer, norm, nn.ReLU()))
    left, refusals = folded(from_torch(net, torch.randn(shape)))
    assert left[1:] == ["add", "nn.relu"]
    assert refusals == {}


def test_scales_of_vectors_behind_a_dense_layer(from_onnx, folded):
    """Constants (C,) and (1, C), also through a ReLU."""
    rng = np.random.default_rng(0)
    weights = {
        "fc.weight": rng.normal(size=(3, 4)).astype("float32"),
        "s.scale": rng.uniform(0.5, 2, size=4).astype("float32"),
        "s.shift": rng.normal(size=(1, 4)).astype("float32"),
        "t.scale": rng.uniform(0.5, 2, size=(1, 4)).astype("float32"),
    }
    nodes = [
        make_node("MatMul", ["x", "fc.weight"], ["a"]),
        make_node("Mul", ["a", "s.scale"], ["b"]),
        make_node("Add", ["b", "s.shift"], ["c"]),
        make_node("Relu", ["c"], ["d"]),
        make_node("Mul", ["d", "t.scale"], ["y"]),
    ]
    left, refusals = folded(from_onnx(nodes, {"x": rng.normal(size=(2, 3)).astype("float32")}, weights))
    assert left == ["matmul", "add", "nn.relu"]
    assert refusals == {}


def test_a_scale_of_words_is_none(from_torch, folded):
    """Behind a dense layer of (N, T, C) the channels are the last axis."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5), nn.ReLU())
    left, refusals = folded(from_torch(net, torch.randn(2, 5, 3)))
    assert left[-3:] == ["multiply", "add", "nn.relu"]
    assert refusals == {}


@pytest.mark.parametrize("behind", [True, False])
def test_a_convolution_with_computed_weights_is_told(built, behind):
    def compute(builder, x):
        kernel = builder.emit(relax.op.reshape(x, (3, 3, 1, 1)))
        by = relax.const(np.full((1, 3, 1, 1), 2.0, "float32"))
        image = builder.emit(relax.op.reshape(x, (1, 3, 3, 1)))
        if behind:
            return relax.op.multiply(builder.emit(relax.op.nn.conv2d(image, kernel)), by)
        return relax.op.nn.conv2d(builder.emit(relax.op.multiply(image, by)), kernel)

    findings = find_folds(Graph(built((9,), compute)))
    assert findings.merges == ()
    assert [refused.reason for refused in findings.refusals] == [Reason.DYNAMIC]


def test_a_scale_does_not_cross_a_pool_of_another_layout(built):
    def compute(builder, x):
        by = relax.const(np.full((1, 4, 1, 1), 2.0, "float32"))
        scaled = builder.emit(relax.op.multiply(x, by))
        pooled = builder.emit(relax.op.nn.max_pool2d(scaled, 2, layout="NHWC"))
        return relax.op.nn.conv2d(pooled, relax.const(np.ones((3, 3, 1, 1), "float32")))

    findings = find_folds(Graph(built((1, 4, 6, 4), compute)))
    assert findings.merges == ()


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_channel_is_where_the_layout_says(built, layout):
    """Behind a convolution in NHWC the second axis is the height: a scale of rows stays."""
    kernel = np.ones((4, 4, 1, 1) if layout == "NCHW" else (1, 1, 4, 4), "float32")
    kernel_layout = "OIHW" if layout == "NCHW" else "HWIO"

    def compute(builder, x):
        convolved = builder.emit(
            relax.op.nn.conv2d(x, relax.const(kernel), data_layout=layout, kernel_layout=kernel_layout)
        )
        return relax.op.multiply(convolved, relax.const(np.full((1, 4, 1, 1), 2.0, "float32")))

    findings = find_folds(Graph(built((1, 4, 4, 4), compute)))
    assert bool(findings.merges) == (layout == "NCHW")


@pytest.mark.parametrize("behind", [True, False])
def test_a_convolution_that_adds_up_in_single_precision(built, behind):
    """Weights keep their type, the bias has that of the result."""
    rng = np.random.default_rng(0)
    kernel = relax.const(rng.normal(size=(3, 3, 1, 1)).astype("float16"))
    of_channel = rng.uniform(0.5, 2, size=(1, 3, 1, 1))

    def compute(builder, x):
        if behind:
            y = builder.emit(relax.op.nn.conv2d(x, kernel, out_dtype="float32"))
            y = builder.emit(relax.op.multiply(y, relax.const(of_channel.astype("float32"))))
            return builder.emit(relax.op.add(y, relax.const(of_channel.astype("float32"))))
        y = builder.emit(relax.op.multiply(x, relax.const(of_channel.astype("float16"))))
        y = builder.emit(relax.op.add(y, relax.const(of_channel.astype("float16"))))
        return builder.emit(relax.op.nn.conv2d(y, kernel, out_dtype="float32"))

    module = built((2, 3, 4, 4), compute, dtype="float16")
    merged = apply_plan(module, plan_merges(module))
    relax.analysis.well_formed(merged)
    assert [Graph(merged).kind(value) for value in Graph(merged).value.values()][:2] == ["conv2d", "add"]
    assert str(merged["main"].ret_ty.dtype) == "float32"


def test_a_constant_that_broadcasts_a_single_channel_is_no_scale(built):
    def compute(builder, x):
        constant = relax.const(np.ones((1, 3, 1, 1), "float32"))
        return builder.emit(relax.op.multiply(x, constant)), builder.emit(relax.op.mean(x, [2, 3]))

    findings = find_folds(Graph(built((1, 1, 4, 4), compute)))
    assert findings.merges == findings.refusals == ()


def test_scales_of_vectors_and_numbers_are_none(built):
    def compute(builder, x):
        total = builder.emit(relax.op.sum(x))
        vector = builder.emit(relax.op.sum(x, [0]))
        scalar = builder.emit(relax.op.multiply(total, relax.const(2.0)))
        return scalar, builder.emit(relax.op.add(vector, relax.const(np.ones(3, "float32"))))

    findings = find_folds(Graph(built((2, 3), compute)))
    assert findings.merges == findings.refusals == ()


def test_half_precision_stays_half(from_onnx, operators):
    rng = np.random.default_rng(0)
    weights = {
        "c.weight": rng.normal(size=(3, 2, 1, 1)).astype("float16"),
        "s.scale": rng.normal(size=(3, 1, 1)).astype("float16"),
    }
    nodes = [make_node("Conv", ["x", "c.weight"], ["c"]), make_node("Mul", ["c", "s.scale"], ["y"])]
    case = from_onnx(nodes, {"x": rng.normal(size=(1, 2, 4, 4)).astype("float16")}, weights)
    module = apply_plan(case.module, plan_merges(case.module))
    assert operators(module) == ["nn.conv2d"]
    assert str(module["main"].ret_ty.dtype) == "float16"
    assert case.difference(module) < 1e-2
