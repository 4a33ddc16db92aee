"""The least-squares fit: known weights are found again, nothing gets worse, numpy agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from tvm import relax
from tvm.relax import op

from pipeline.retraining.fit import Fitted, fit
from pipeline.retraining.fit_target import FitTarget, Piece, fit_target
from pipeline.twin import Twin
from relay_passes.graph import Graph

SIZE = (4, 3, 14, 13)
"""Of the input: two groups of channels are two and one, so three inputs are one group, six two or three."""


@dataclass(frozen=True)
class Shape:
    """A convolution of 6 outputs and what is behind it."""

    inputs: int = 3
    groups: int = 1
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def weights(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        weight = rng.normal(size=(6, self.inputs // self.groups, *self.kernel)).astype("float32")
        return weight, rng.normal(size=(1, 6, 1, 1)).astype("float32") * self.bias

    def module(self, seed: int) -> tvm.IRModule:
        """`conv`, `conv.bias`, `act`; a negative padding is a slice before it, as merges make it."""
        weight, bias = self.weights(seed)
        builder = relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType((SIZE[0], self.inputs, *SIZE[2:]), "float32"))
        with builder.function("main", [x]):
            with builder.dataflow():
                options = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}
                value = op.nn.conv2d(x, relax.const(weight), groups=self.groups, **options)
                var = bind(builder, "conv", value)
                if self.bias:
                    var = bind(builder, "conv.bias", op.add(var, relax.const(bias)))
                if self.bounds == (0, math.inf):
                    var = bind(builder, "act", op.nn.relu(var))
                elif self.bounds != (-math.inf, math.inf):
                    var = bind(builder, "act", op.clip(var, *self.bounds))
                builder.emit_output(var)
            builder.emit_func_output(var)
        return builder.finalize()

    def compute(self, x: Tensor, seed: int) -> Tensor:
        """The same in torch."""
        weight, bias = map(torch.from_numpy, self.weights(seed))
        top, left, bottom, right = self.padding
        y = F.conv2d(
            F.pad(x, (left, right, top, bottom)),
            weight,
            stride=self.strides,
            dilation=self.dilation,
            groups=self.groups,
        )
        return (y + bias).clamp(*self.bounds)


def bind(builder: relax.BlockBuilder, name: str, value: relax.Expr) -> relax.Var:
    value = builder.normalize(value)
    var = relax.DataflowVar(name, value.ty)
    builder.emit_normalized(relax.VarBinding(var, value))
    return var


def images(channels: int, seed: int = 0, batches: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (SIZE[0], channels, *SIZE[2:])
    return [torch.randn(shape, generator=generator) for _ in range(batches)]


def fitted(shape: Shape, values: list[Tensor], inputs: list[Tensor], seed: int = 1) -> tuple[Twin, Fitted]:
    """A twin with the weights of `seed`, fitted to values."""
    module = shape.module(seed)
    graph = Graph(module)
    last = graph.layers[-1].name
    target = fit_target(graph, "conv", {last: None})
    assert target is not None
    assert (target.low, target.high) == shape.bounds
    assert target.bias == ("conv.bias" if shape.bias else None)
    twin = Twin(module)
    with torch.no_grad():
        found = fit(target, twin, inputs, [{last: value} for value in values])
    return twin, found


def error(shape: Shape, twin: Twin, values: list[Tensor], inputs: list[Tensor]) -> float:
    with torch.no_grad():
        made = [twin(x)[0] for x in inputs]
    wanted = torch.cat(values)
    return float(((torch.cat(made) - wanted).square().sum()) / (wanted - wanted.mean()).square().sum())


SHAPES = {
    "plain": Shape(),
    "no bias": Shape(bias=False),
    "relu": Shape(bounds=(0, math.inf)),
    "relu, no bias": Shape(bounds=(0, math.inf), bias=False),
    "clip": Shape(bounds=(-2.0, 5.0)),
    "bounded above": Shape(bounds=(-math.inf, 4.0)),
    "groups": Shape(inputs=6, groups=3, bounds=(0, math.inf)),
    "depthwise": Shape(inputs=6, groups=6),
    "strides": Shape(strides=(2, 3)),
    "asymmetric": Shape(padding=(0, 2, 1, 3), kernel=(2, 4)),
    "dilated": Shape(dilation=(2, 3), kernel=(3, 2), padding=(2, 0, 1, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_known_weights_are_found_again(name):
    shape = SHAPES[name]
    inputs = images(shape.inputs)
    values = [shape.compute(x, seed=7) for x in inputs]
    twin, found = fitted(shape, values, inputs)
    weight, bias = shape.weights(seed=7)
    tolerance = 1e-4 if shape.bounds == (-math.inf, math.inf) else 0.03
    np.testing.assert_allclose(twin.get_parameter("conv:weight").detach(), weight, atol=tolerance)
    if shape.bias:
        np.testing.assert_allclose(twin.get_parameter("conv_bias:bias").detach(), bias, atol=tolerance)
    assert found.after < 1e-5
    assert found.after < found.before / 100
    assert error(shape, twin, values, inputs) < 1e-5


@st.composite
def any_shape(draw: st.DrawFn) -> Shape:
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    return Shape(
        inputs=6,
        groups=draw(st.sampled_from([1, 2, 3, 6])),
        kernel=draw(pair),
        strides=draw(pair),
        padding=padding,
        dilation=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        bias=draw(st.booleans()),
        bounds=draw(st.sampled_from([(-math.inf, math.inf), (0, math.inf), (0.0, 6.0)])),
    )


@settings(max_examples=25, deadline=None)
@given(shape=any_shape(), seed=st.integers(0, 20))
def test_no_fit_is_worse_than_the_first_weights(shape, seed):
    """Whatever the values are; and what a fit says of itself is so."""
    inputs = images(shape.inputs, seed, batches=2)
    generator = torch.Generator().manual_seed(seed)
    values = [
        (shape.compute(x, seed=seed + 1) * 0.7)
        .add_(torch.randn((), generator=generator))
        .clamp(*shape.bounds)
        for x in inputs
    ]
    twin, found = fitted(shape, values, inputs, seed)
    before = error(shape, Twin(shape.module(seed)), values, inputs)
    assert error(shape, twin, values, inputs) <= before * (1 + 1e-5)
    assert found.after <= found.before


@pytest.mark.parametrize("bias", [True, False])
def test_as_numpy_without_an_activation(bias):
    """Values that no convolution has: the best one is numpy's."""
    shape = Shape(padding=(0, 0, 0, 0), kernel=(2, 2), bias=bias)
    inputs = images(3)
    values = [torch.randn(4, 6, 13, 12, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    twin, found = fitted(shape, values, inputs)
    patches = torch.cat([F.unfold(x, 2).transpose(1, 2).reshape(-1, 12) for x in inputs]).double().numpy()
    patches = np.concatenate([patches, np.ones((len(patches), int(bias)))], 1)
    aims = torch.cat([y.permute(0, 2, 3, 1).reshape(-1, 6) for y in values]).double().numpy()
    best = np.linalg.lstsq(patches, aims)[0]
    ours = twin.get_parameter("conv:weight").detach().reshape(6, 12).T.numpy()
    np.testing.assert_allclose(ours, best[:12], atol=1e-5)
    rest = np.square(patches @ best - aims).sum() / np.square(aims - aims.mean(0)).sum()
    assert found.after == pytest.approx(rest, rel=1e-5)


def test_what_the_inputs_do_not_tell_stays(tmp_path):
    """A channel that is always zero keeps its weights; the ridge pulls the others nowhere."""
    shape = Shape()
    inputs = images(3)
    for x in inputs:
        x[:, 1] = 0
    twin, _ = fitted(shape, [shape.compute(x, seed=7) for x in inputs], inputs)
    weight = twin.get_parameter("conv:weight").detach()
    first, known = shape.weights(seed=1)[0], shape.weights(seed=7)[0]
    np.testing.assert_array_equal(weight[:, 1], first[:, 1])
    np.testing.assert_allclose(weight[:, [0, 2]], known[:, [0, 2]], atol=1e-4)


def test_inputs_that_are_all_zero_change_nothing():
    shape = Shape(bias=False)
    inputs = [torch.zeros(SIZE)] * 2
    twin, found = fitted(shape, [shape.compute(x + 1, seed=7) for x in inputs], inputs)
    np.testing.assert_array_equal(twin.get_parameter("conv:weight").detach(), shape.weights(seed=1)[0])
    assert found.after == found.before


def test_weights_that_are_right_stay():
    shape = Shape(bounds=(0, math.inf))
    inputs = images(3)
    twin, found = fitted(shape, [shape.compute(x, seed=1) for x in inputs], inputs, seed=1)
    np.testing.assert_allclose(twin.get_parameter("conv:weight").detach(), shape.weights(1)[0], atol=1e-5)
    assert found.after <= found.before < 1e-9


def test_the_same_every_time(monkeypatch):
    monkeypatch.setattr("pipeline.retraining.fit.MOST_PATCHES", 300)
    shape, inputs = Shape(bounds=(0, math.inf)), images(3)
    values = [shape.compute(x, seed=7) for x in inputs]
    one, other = (fitted(shape, values, inputs)[0].get_parameter("conv:weight") for _ in range(2))
    assert torch.equal(one, other)


def module_of(shape: tuple[int, ...], body) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = body(builder, x)
            builder.emit_output(result)
        builder.emit_func_output(result)
    return builder.finalize()


def kernel(outputs: int, inputs: int = 3) -> relax.Expr:
    weight = np.random.default_rng(outputs).normal(size=(outputs, inputs, 3, 3))
    return relax.const(weight.astype("float32"))


def test_channels_that_go_several_ways():
    """As in a merged block: one convolution, split, its parts joined with others in another order."""

    def body(builder, x):
        wide = bind(builder, "wide", op.nn.conv2d(x, kernel(7), padding=1))
        wide = bind(builder, "wide.relu", op.nn.relu(wide))
        other = bind(builder, "other", op.nn.conv2d(x, kernel(2), padding=1))
        parts = bind(builder, "parts", op.split(wide, [3, 4], 1))
        first, second, third = (bind(builder, f"parts.{i}", parts[i]) for i in range(3))
        return bind(builder, "cat", op.concat([third, other, first, second], 1))

    module = module_of(SIZE, body)
    target = fit_target(Graph(module), "wide", {"cat": None})
    assert isinstance(target, FitTarget)
    assert set(target.pieces) == {Piece(0, 3, "cat", 5), Piece(3, 4, "cat", 8), Piece(4, 7, "cat", 0)}
    other = fit_target(Graph(module), "other", {"cat": None})
    assert other.pieces == (Piece(0, 2, "cat", 3),)

    inputs = images(3)
    known, twin = Twin(module), Twin(module)
    with torch.no_grad():
        known.get_parameter("wide:weight").copy_(
            torch.from_numpy(Shape().weights(3)[0][[0, 1, 2, 3, 4, 5, 0]])
        )
        values = [known.run([x], ["cat"])[1] for x in inputs]
        fit(target, twin, inputs, values)
        fit(other, twin, inputs, values)
    for name, parameter in known.named_parameters():
        torch.testing.assert_close(twin.get_parameter(name), parameter, atol=1e-2, rtol=0)
    with torch.no_grad():
        made = torch.cat([twin(x)[0] for x in inputs])
    wanted = torch.cat([value["cat"] for value in values])
    assert float((made - wanted).square().mean() / wanted.square().mean()) < 1e-5


def conv(builder, x, name="conv"):
    return bind(builder, name, op.nn.conv2d(x, kernel(6), padding=1))


def test_no_target_behind_other_layers():
    """A pool or a scale in between: the values there say nothing that a linear fit could use."""
    for between in (lambda x: op.nn.max_pool2d(x, 2), op.nn.silu, lambda x: op.add(x, x)):
        module = module_of(SIZE, lambda b, x, between=between: bind(b, "end", between(conv(b, x))))
        assert fit_target(Graph(module), "conv", {"end": None}) is None


def test_no_target_where_channels_are_lost():
    def body(builder, x):
        parts = bind(builder, "parts", op.split(conv(builder, x), [2], 1))
        return bind(builder, "end", op.concat([bind(builder, "part", parts[1]), x], 1))

    assert fit_target(Graph(module_of(SIZE, body)), "conv", {"end": None}) is None


def test_no_target_where_two_layers_say_different_things():
    def body(builder, x):
        y = conv(builder, x)
        first, second = (bind(builder, n, op.concat(p, 1)) for n, p in (("a", [y, x]), ("b", [x, y])))
        return bind(builder, "end", op.concat([first, second], 1))

    assert fit_target(Graph(module_of(SIZE, body)), "conv", {"a": None, "b": None}) is None


def test_an_addition_behind_the_activation_is_no_bias():
    def body(builder, x):
        bounded = bind(builder, "act", op.clip(conv(builder, x), -math.inf, 4.0))
        shift = relax.const(np.ones((1, 6, 1, 1), "float32"))
        return bind(builder, "end", op.add(bounded, shift))

    assert fit_target(Graph(module_of(SIZE, body)), "conv", {"end": None}) is None


def test_no_layer_of_that_name():
    module = module_of(SIZE, lambda b, x: conv(b, x))
    assert fit_target(Graph(module), "nowhere", {"conv": None}) is None
    assert fit_target(Graph(module), "conv", {"conv": None}).pieces == (Piece(0, 6, "conv", 0),)


def test_a_convolution_in_the_middle_stops_the_way():
    module = module_of(SIZE, lambda b, x: bind(b, "end", op.nn.conv2d(conv(b, x), kernel(2, 6))))
    assert fit_target(Graph(module), "conv", {"end": None}) is None
