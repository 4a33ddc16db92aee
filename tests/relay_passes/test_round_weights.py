"""Weights are rounded to multiples of a scale for each output channel; nothing else changes."""

import numpy as np
import pytest
import torch
import tvm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.twin import evaluate
from relay_passes.graph import Graph, array_of
from relay_passes.round_weights import CHANNEL_AXIS, LARGEST, RoundWeights, rounded
from relay_passes.to_float16 import ToFloat16


class Network(nn.Module):
    """A convolution, one in groups, a transposed one and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depth = nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.up(torch.relu(self.depth(torch.relu(self.stem(x))))))
        return torch.softmax(self.head(x.mean((2, 3))), 1)


def constants(module: tvm.IRModule) -> dict[str, np.ndarray]:
    """The constants that each layer reads second, by the layers' names."""
    graph = Graph(module)
    calls = {var.name: graph.value[var] for var in graph.layers}
    arrays = {name: array_of(call.args[1]) for name, call in calls.items() if len(call.args) > 1}
    return {name: array for name, array in arrays.items() if array is not None}


def weighted(module: tvm.IRModule) -> dict[str, int]:
    """The channels' axis of each layer that has weights."""
    graph = Graph(module)
    calls = ((var, graph.call(var, *CHANNEL_AXIS)) for var in graph.layers)
    return {
        var.name: CHANNEL_AXIS[call.op.name.removeprefix("relax.")] for var, call in calls if call is not None
    }


@pytest.mark.parametrize("half", [False, True])
def test_all_weights_and_nothing_else_are_rounded(from_torch, half: bool) -> None:
    torch.manual_seed(0)
    case = from_torch(Network().eval(), torch.randn(1, 3, 10, 10))
    module = ToFloat16()(case.module) if half else case.module
    after = RoundWeights()(module)
    axes, old, new = weighted(module), constants(module), constants(after)
    assert len(axes) == 4
    assert old.keys() == new.keys()
    for name, array in old.items():
        assert array.dtype == new[name].dtype
        if name not in axes:
            np.testing.assert_array_equal(new[name], array)
            continue
        channels = np.moveaxis(new[name], axes[name], 0).reshape(array.shape[axes[name]], -1)
        assert max(len(np.unique(np.abs(each))) for each in channels) <= LARGEST + 1
        assert not np.array_equal(new[name], array)
    image = np.random.default_rng(0).standard_normal((1, 3, 10, 10)).astype("float32")
    np.testing.assert_allclose(evaluate(after, [image])[0], evaluate(case.module, [image])[0], atol=0.01)


@settings(deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    axis=st.integers(-2, 1),
    exponents=st.tuples(st.integers(-12, 4), st.integers(-12, 4)),
    dtype=st.sampled_from(["float32", "float16"]),
    seed=st.integers(0, 2**16),
)
@example(shape=[4, 5], axis=0, exponents=(-7, -7), dtype="float32", seed=1)
@example(shape=[4, 5], axis=0, exponents=(-7, -6), dtype="float32", seed=1)
@example(shape=[4, 5], axis=0, exponents=(-1, -1), dtype="float16", seed=1)
def test_each_weight_is_off_by_half_a_scale_at_most(shape, axis, exponents, dtype, seed) -> None:
    generator = np.random.default_rng(seed)
    size = 2.0 ** generator.integers(min(exponents), max(exponents) + 1, np.array(shape))
    weight = (generator.standard_normal(shape) * size.prod()).clip(-1e4, 1e4).astype(dtype)
    found = rounded(weight, axis)
    assert (found.dtype, found.shape) == (weight.dtype, weight.shape)
    others = tuple(each for each in range(weight.ndim) if each != axis % weight.ndim)
    scale = np.abs(weight.astype("float64")).max(others, keepdims=True) / LARGEST
    spacing = np.spacing(np.abs(weight)).astype("float64")
    least = np.finfo("float32").smallest_normal.astype("float64")
    bound = np.where(scale < least, scale * LARGEST, scale * 0.5001 + spacing)
    assert (np.abs(found.astype("float64") - weight) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_rounded_stays_as_it_is(dtype: str) -> None:
    weight = np.random.default_rng(0).standard_normal((16, 8, 3, 3)).astype(dtype)
    once = rounded(weight, 0)
    np.testing.assert_array_equal(rounded(once, 0), once)


def test_channels_of_zeros_and_of_next_to_nothing() -> None:
    weight = np.zeros((3, 4), "float32")
    weight[1], weight[2] = 1e-44, [1, -1, 0.5, 1e-9]
    found = rounded(weight, 0)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:2], 0)
    np.testing.assert_allclose(found[2], [1, -1, 64 / 127, 0], rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_left_alone(from_torch, wrong: float) -> None:
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = wrong
    case = from_torch(layer.eval(), torch.randn(1, 3, 5, 5))
    before, after = constants(case.module), constants(RoundWeights()(case.module))
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
