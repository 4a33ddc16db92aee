import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from tvm import relax

from pipeline.twin import evaluate
from relay_passes import Kind, Reason, cost, layer_table, reborn_layers
from relay_passes.decompose_tucker import DecomposeTucker, TuckerFinder, find_tucker
from relay_passes.graph import Graph, shape_of
from relay_passes.merge import next_sweep
from relay_passes.ranks import Energy, Fixed, Ratio, Vbmf, WrongRanks


def _low_rank(convolution, rank_in, rank_out, noise=0.0):
    """Give a convolution a kernel of these ranks, and noise of a width that is a share of it."""
    outputs, inputs, *kernel = convolution.weight.shape
    into, out = torch.randn(rank_in, inputs), torch.randn(outputs, rank_out)
    weight = torch.einsum("or,rqhw,qi->oihw", out, torch.randn(rank_out, rank_in, *kernel), into)
    weight = weight / weight.std() / np.sqrt(inputs * kernel[0] * kernel[1])
    convolution.weight.data = weight + noise * weight.std() * torch.randn_like(weight)
    return convolution


def _decomposed(case, ranks):
    module = DecomposeTucker(ranks)(case.module)
    assert relax.analysis.check_well_formed(module)
    case.difference(module)
    return module


class Net(nn.Module):
    """A convolution named `c`, an activation, and a second layer."""

    def __init__(self, convolution, then=None):
        super().__init__()
        self.c = convolution
        self.then = nn.ReLU() if then is None else then

    def forward(self, x):
        return self.then(self.c(x))


GEOMETRIES = {
    "plain": {"padding": 1},
    "no bias": {"padding": 1, "bias": False},
    "strides": {"stride": (2, 1)},
    "padding": {"padding": (2, 1), "stride": 2},
    "dilation": {"dilation": 2, "padding": 2},
    "1x7": {"kernel_size": (1, 7), "padding": (0, 3)},
    "even": {"kernel_size": 4, "stride": 2, "padding": 1},
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_kernel_of_low_rank_computes_the_same(from_torch, operators, names, geometry):
    layer = _low_rank(nn.Conv2d(16, 24, **{"kernel_size": 3, **geometry}), 3, 5)
    case = from_torch(Net(layer, nn.PReLU(24)), torch.randn(2, 16, 13, 12))
    module = _decomposed(case, Vbmf())
    assert names(module)[:3] == ["c.in", "c", "c.out"]
    bias = ["add"] if layer.bias is not None else []
    assert operators(module) == ["nn.conv2d"] * 3 + bias + ["nn.prelu"]
    assert [shape_of(var)[1] for var in Graph(module).layers[:3]] == [3, 5, 24]
    assert case.difference(module) < 1e-5
    assert reborn_layers(module) == ["c.in", "c", "c.out"]


def test_the_merge_as_a_plan_shows_it(from_torch):
    case = from_torch(Net(_low_rank(nn.Conv2d(16, 24, 3), 3, 5, 0.01)), torch.randn(1, 16, 9, 9))
    (merge,) = find_tucker(Graph(case.module), Vbmf()).merges
    candidate = merge.candidate()
    assert (candidate.name, candidate.found_at, candidate.kind) == ("c", "c", Kind.TUCKER)
    assert (candidate.layers, candidate.removed, candidate.exact) == (("c",), (), False)
    assert candidate.ranks == merge.ranks == (3, 5)


def test_noise_does_not_change_the_ranks_and_is_lost(from_torch):
    layer = _low_rank(nn.Conv2d(32, 48, 3, padding=1), 6, 4, 0.05)
    case = from_torch(Net(layer), torch.randn(1, 32, 10, 10))
    (merge,) = find_tucker(Graph(case.module), Vbmf()).merges
    assert merge.ranks == (6, 4)
    assert 1e-4 < case.difference(_decomposed(case, Vbmf())) < 0.2


@pytest.mark.parametrize(
    ("ranks", "made"),
    [((16, 5), ["c", "c.out"]), ((3, 24), ["c.in", "c"]), ((3, 5), ["c.in", "c", "c.out"])],
    ids=str,
)
def test_channels_with_a_full_rank_stay(from_torch, names, ranks, made):
    case = from_torch(Net(_low_rank(nn.Conv2d(16, 24, 3), 3, 5)), torch.randn(1, 16, 9, 9))
    module = _decomposed(case, Fixed({"c": ranks}))
    assert names(module)[: len(made)] == made
    assert reborn_layers(module) == made
    assert case.difference(module) < 1e-5


def test_the_channels_of_a_picture_stay(from_torch, names):
    case = from_torch(Net(_low_rank(nn.Conv2d(3, 32, 7, 2, 3), 3, 4)), torch.randn(1, 3, 20, 20))
    assert names(_decomposed(case, Vbmf()))[:2] == ["c", "c.out"]


def test_savings_are_those_of_the_layer_table(from_torch):
    case = from_torch(Net(_low_rank(nn.Conv2d(16, 24, 3, 2, 1), 3, 5)), torch.randn(2, 16, 12, 12))
    sweep = next_sweep(case.module, TuckerFinder(Vbmf()), lambda _merge: True)
    (change,) = sweep.changes
    assert change.macs == cost(sweep.module).macs - cost(case.module).macs
    assert cost(sweep.module).macs == 16 * 3 * 288 + 3 * 5 * 9 * 72 + 5 * 24 * 72


def test_what_is_decomposed_is_not_decomposed_again(from_torch):
    case = from_torch(Net(_low_rank(nn.Conv2d(64, 64, 3), 40, 40)), torch.randn(1, 64, 9, 9))
    for ranks in (Ratio(0.9), Ratio(0.5), Energy(0.5), Fixed({"c": (64, 16)}), Fixed({"c": (16, 64)})):
        module = _decomposed(case, ranks)
        assert find_tucker(Graph(module), Ratio(0.1)).merges == ()
        assert find_tucker(Graph(module), Ratio(0.1)).refusals == ()


def test_several_users_and_an_output(from_torch):
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = _low_rank(nn.Conv2d(16, 16, 3, padding=1, bias=False), 3, 4)
            self.d = _low_rank(nn.Conv2d(16, 16, 3, padding=1, bias=False), 4, 3)

        def forward(self, x):
            y = self.c(x)
            return y, F.relu(y) + self.d(y), self.d(x)

    case = from_torch(Forked(), torch.randn(1, 16, 8, 8))
    module = _decomposed(case, Vbmf())
    assert sum(layer.tensor for layer in layer_table(module)) == 9
    assert case.difference(module) < 1e-5


REFUSED = {
    "grouped": (nn.Conv2d(16, 32, 3, groups=2), Ratio(0.5), Reason.GROUPED, "it has 2 groups"),
    "noise": (nn.Conv2d(16, 32, 3), Vbmf(), Reason.NO_RANK, "can't be told from noise"),
    "ranks too high": (
        nn.Conv2d(16, 32, 3),
        Fixed({"c": (15, 31)}),
        Reason.SAVES_NOTHING,
        "ranks 15 and 31 would take 273,113 multiply-adds, not 225,792",
    ),
    "full ranks": (nn.Conv2d(16, 32, 3), Fixed({"c": (16, 32)}), Reason.SAVES_NOTHING, "not 225,792"),
    "energy that most is needed for": (nn.Conv2d(16, 16, 2), Energy(0.99), Reason.SAVES_NOTHING, "ranks"),
}


@pytest.mark.parametrize(("layer", "ranks", "reason", "detail"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(from_torch, layer, ranks, reason, detail):
    case = from_torch(Net(layer), torch.randn(1, 16, 9, 9))
    found = find_tucker(Graph(case.module), ranks)
    assert found.merges == ()
    (refused,) = found.refusals
    assert (refused.kind, refused.layers, refused.reason) == (Kind.TUCKER, ("c",), reason)
    assert detail in refused.detail
    assert _decomposed(case, ranks).same_as(case.module)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(from_torch, value):
    layer = nn.Conv2d(16, 32, 3)
    layer.weight.data[0, 0, 0, 0] = value
    case = from_torch(Net(layer), torch.randn(1, 16, 9, 9))
    for ranks in (Vbmf(), Energy(0.5), Ratio(0.5), Fixed({"c": (2, 3)})):
        assert [r.reason for r in find_tucker(Graph(case.module), ranks).refusals] == [Reason.NO_RANK]


def test_weights_computed_at_run_time(built):
    def compute(builder, x):
        weight = builder.emit(relax.op.reshape(x, (16, 16, 3, 3)), "w")
        picture = builder.emit(relax.op.reshape(x, (1, 16, 12, 12)), "p")
        return builder.emit(relax.op.nn.conv2d(picture, weight), "c")

    (refused,) = find_tucker(Graph(built((2304,), compute)), Ratio(0.5)).refusals
    assert (refused.name, refused.reason) == ("c", Reason.DYNAMIC)


LEFT = {
    "1x1": nn.Conv2d(16, 32, 1),
    "depthwise": nn.Conv2d(16, 32, 3, groups=16),
    "few channels": nn.Conv2d(4, 6, 3),
    "transposed": nn.ConvTranspose2d(16, 32, 3),
}


@pytest.mark.parametrize("layer", LEFT.values(), ids=LEFT.keys())
def test_layers_that_are_no_candidates(from_torch, layer):
    case = from_torch(Net(layer), torch.randn(1, layer.in_channels, 9, 9))
    found = find_tucker(Graph(case.module), Ratio(0.5))
    assert (found.merges, found.refusals) == ((), ())


MATRICES = {
    "1x1": (lambda: nn.Conv2d(24, 32, 1), (2, 24, 7, 6), ["c", "c.out"]),
    "1x1 with a stride": (lambda: nn.Conv2d(24, 32, 1, 2, bias=False), (1, 24, 7, 6), ["c", "c.out"]),
    "1x1 padded": (lambda: nn.Conv2d(24, 32, 1, padding=1), (1, 24, 7, 6), ["c.in", "c"]),
    "dense": (lambda: nn.Linear(24, 32), (3, 24), ["c", "c.out"]),
    "dense to less": (lambda: nn.Linear(40, 12, bias=False), (1, 40), ["c", "c.out"]),
}


def _matrix(rank, build):
    """A layer whose weights have this rank."""
    layer = build()
    outputs, inputs = layer.weight.shape[:2]
    weight = torch.randn(outputs, rank) @ torch.randn(rank, inputs) / np.sqrt(rank * inputs)
    layer.weight.data = weight.reshape(layer.weight.shape)
    return layer


@pytest.mark.parametrize(("build", "shape", "made"), MATRICES.values(), ids=MATRICES.keys())
def test_a_matrix_of_low_rank_becomes_two(from_torch, names, build, shape, made):
    case = from_torch(Net(_matrix(4, build)), torch.randn(shape))
    for ranks in (Vbmf(matrices=True), Energy(0.9999, matrices=True), Ratio(0.9, matrices=True)):
        module = _decomposed(case, ranks)
        assert names(module)[:2] == reborn_layers(module) == made
        assert case.difference(module) < 1e-5
        assert cost(module).macs < cost(case.module).macs
        assert find_tucker(Graph(module), ranks).merges == ()
        assert find_tucker(Graph(module), Ratio(0.2, matrices=True)).merges == ()


def test_a_matrix_is_as_near_as_its_singular_values_allow(from_torch):
    layer = nn.Linear(24, 32, bias=False)
    case = from_torch(Net(layer, nn.Identity()), torch.eye(24))
    module = _decomposed(case, Fixed({"c": (24, 5)}))
    made = evaluate(module, case.inputs)[0]
    left, values, right = np.linalg.svd(layer.weight.detach().numpy().T)
    np.testing.assert_allclose(made, (left[:, :5] * values[:5]) @ right[:5], atol=1e-5)


@pytest.mark.parametrize("rank", [(24, 5), (5, 32), (5, 7)], ids=str)
def test_ranks_of_a_matrix_by_name(from_torch, rank):
    for build, shape, _ in (MATRICES["1x1"], MATRICES["dense"]):
        case = from_torch(Net(_matrix(5, build)), torch.randn(shape))
        assert case.difference(_decomposed(case, Fixed({"c": rank}))) < 1e-5


def test_matrices_that_are_no_candidates(from_torch):
    for layer, shape in (
        (nn.Conv2d(16, 16, 1, groups=16), (1, 16, 9, 9)),
        (nn.Conv2d(16, 4, 1), (1, 16, 9, 9)),
        (nn.Linear(16, 7), (1, 16)),
        (nn.Linear(16, 32), (1, 5, 16)),
    ):
        case = from_torch(Net(layer), torch.randn(shape))
        found = find_tucker(Graph(case.module), Ratio(0.5, matrices=True))
        assert (found.merges, found.refusals) == ((), ())
    case = from_torch(Net(nn.Conv2d(16, 32, 1, groups=2)), torch.randn(1, 16, 9, 9))
    (refused,) = find_tucker(Graph(case.module), Ratio(0.5, matrices=True)).refusals
    assert refused.reason is Reason.GROUPED


def test_ranks_by_name_touch_no_other_layer(from_torch, names):
    net = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    case = from_torch(net, torch.randn(1, 16, 9, 9))
    module = _decomposed(case, Fixed({"2": (4, 6)}))
    assert names(module)[0] == "0"
    assert reborn_layers(module) == ["2.in", "2", "2.out"]


def test_ranks_beyond_the_channels(from_torch):
    case = from_torch(Net(nn.Conv2d(16, 32, 3)), torch.randn(1, 16, 9, 9))
    with pytest.raises(WrongRanks, match="c: ranks 16, 33 exceed its 16 inputs and 32 outputs"):
        find_tucker(Graph(case.module), Fixed({"c": (16, 33)}))


def test_ranks_of_a_plan_give_the_same_network(from_torch):
    case = from_torch(Net(_low_rank(nn.Conv2d(16, 24, 3), 3, 5, 0.01)), torch.randn(1, 16, 9, 9))
    (merge,) = find_tucker(Graph(case.module), Vbmf()).merges
    first = evaluate(_decomposed(case, Vbmf()), case.inputs)
    second = evaluate(_decomposed(case, Fixed({merge.name: merge.ranks})), case.inputs)
    np.testing.assert_array_equal(first[0], second[0])


def test_a_finder_looks_at_weights_once(from_torch, monkeypatch):
    looked = []
    monkeypatch.setattr(
        "relay_passes.decompose_tucker.squares",
        lambda weight, axis: looked.append(axis) or np.ones(weight.shape[axis]),
    )
    case = from_torch(
        nn.Sequential(nn.Conv2d(16, 24, 3), nn.ReLU(), nn.Conv2d(24, 16, 3)), torch.randn(1, 16, 9, 9)
    )
    finder = TuckerFinder(Energy(0.5))
    sweep = next_sweep(case.module, finder, lambda merge: merge.name == "0")
    finder(Graph(sweep.module))
    assert len(looked) == 4


def test_a_block_of_googlenet_takes_its_share(from_torch):
    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(64, 32, 1)
            self.three = nn.Sequential(nn.Conv2d(64, 32, 1), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1))
            self.five = nn.Sequential(nn.Conv2d(64, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 5, padding=2))
            self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(64, 16, 1))

        def forward(self, x):
            return F.relu(torch.cat([part(x) for part in (self.one, self.three, self.five, self.pool)], 1))

    case = from_torch(Inception(), torch.randn(1, 64, 14, 14))
    before = {layer.name: layer.macs for layer in layer_table(case.module)}
    module = _decomposed(case, Ratio(0.5))
    after = {layer.name: layer.macs for layer in layer_table(module)}
    for name in ("three.2", "five.2"):
        made = sum(macs for layer, macs in after.items() if layer in (f"{name}.in", name, f"{name}.out"))
        assert 0 < made <= before[name] / 2
    assert cost(module).macs < cost(case.module).macs


SHARES = [(Energy, 0.6), (Energy, 0.95), (Ratio, 0.2), (Ratio, 0.7)]


@st.composite
def _layers(draw):
    torch.manual_seed(draw(st.integers(0, 1000)))
    inputs, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    layer = nn.Conv2d(
        inputs,
        outputs,
        kernel,
        draw(st.integers(1, 3)),
        draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        draw(st.integers(1, 2)),
        bias=draw(st.booleans()),
    )
    is_low = draw(st.booleans())
    if is_low:
        _low_rank(layer, draw(st.integers(1, inputs)), draw(st.integers(1, outputs)), 0.01)
    common = {"matrices": draw(st.booleans()), "multiple": draw(st.sampled_from([1, 8]))}
    choices = [Vbmf(**common), *(choice(share, **common) for choice, share in SHARES)]
    return layer, draw(st.sampled_from(choices))


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate])
@given(_layers())
def test_random_convolutions(from_torch, drawn):
    layer, ranks = drawn
    case = from_torch(Net(layer), torch.randn(1, layer.in_channels, 13, 11))
    found = find_tucker(Graph(case.module), ranks)
    module = _decomposed(case, ranks)
    assert (cost(module).macs < cost(case.module).macs) == bool(found.merges)
    assert find_tucker(Graph(module), ranks).merges == ()
