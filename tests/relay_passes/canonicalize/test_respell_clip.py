import math

import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn
from tvm import relax

from relay_passes.canonicalize.respell_clip import respell_clip
from relay_passes.graph import Graph

X = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype("float32") * 4


def _bounds(case):
    graph = Graph(case.module)
    (layer,) = graph.layers
    return tuple(float(bound.value) for bound in graph.call(layer, "clip").args[1:])


@pytest.mark.parametrize("low", [None, -1.0])
@pytest.mark.parametrize("high", [None, 2.5])
@pytest.mark.parametrize("opset", [6, 13])
def test_onnx_clip_is_one_clip(from_onnx, operators, low, high, opset):
    bounds = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
    weights = {}
    if opset == 6:
        node = make_node("Clip", ["x"], ["c"], **bounds)
    else:
        weights = {name: np.float32(value).reshape(()) for name, value in bounds.items()}
        node = make_node("Clip", ["x", *(name if name in bounds else "" for name in ("min", "max"))], ["c"])
    case = from_onnx([node, make_node("Sigmoid", ["c"], ["y"])], {"x": X}, weights, opset=opset)
    assert operators(case.module) == ([] if low is None and high is None else ["clip"]) + ["sigmoid"]
    assert case.difference() < 1e-6


def test_bounds_are_kept(from_onnx):
    weights = {"lo": np.float32(-1).reshape(()), "hi": np.float32(2.5).reshape(())}
    case = from_onnx([make_node("Clip", ["x", "lo", "hi"], ["y"])], {"x": X}, weights)
    assert _bounds(case) == (-1.0, 2.5)


def test_a_lower_bound_of_zero_is_a_relu(from_onnx, operators):
    case = from_onnx([make_node("Clip", ["x", "lo"], ["y"])], {"x": X}, {"lo": np.float32(0).reshape(())})
    assert operators(case.module) == ["nn.relu"]
    assert case.difference() < 1e-6


@pytest.mark.parametrize(
    ("layer", "bounds"),
    [(nn.ReLU6(), (0, 6)), (nn.Hardtanh(-2, 3), (-2, 3))],
)
def test_torch_spells_it_so_too(from_torch, layer, bounds):
    case = from_torch(layer, torch.from_numpy(X))
    assert _bounds(case) == bounds
    assert case.difference() < 1e-6


@pytest.mark.parametrize("bounds", [{"min": 0.5}, {"max": 0.5}, {"min": -1.0, "max": 1.0}])
def test_torch_clamp(from_torch, bounds):
    class Clamp(nn.Module):
        def forward(self, x):
            return x.clamp(**bounds)

    case = from_torch(Clamp(), torch.from_numpy(X))
    assert _bounds(case) == (bounds.get("min", -math.inf), bounds.get("max", math.inf))
    assert case.difference() < 1e-6


def test_bounds_that_exclude_each_other_are_not_joined(built, operators):
    def compute(builder, x):
        return relax.op.minimum(builder.emit(relax.op.maximum(x, relax.const(5.0))), relax.const(3.0))

    assert operators(respell_clip(built((1, 2, 2, 2), compute))) == ["clip", "clip"]


def test_the_inner_bound_may_have_other_readers(built, operators):
    def compute(builder, x):
        low = builder.emit(relax.op.maximum(x, relax.const(0.0)))
        return builder.emit(relax.op.minimum(low, relax.const(3.0))), builder.emit(relax.op.sigmoid(low))

    assert operators(respell_clip(built((1, 2, 2, 2), compute))) == ["nn.relu", "clip", "sigmoid"]


def test_a_bound_for_each_element_is_no_clip(built, operators):
    bound = relax.const(np.ones((1, 2, 2, 2), "float32"))
    module = built((1, 2, 2, 2), lambda builder, x: relax.op.maximum(x, bound))
    assert operators(respell_clip(module)) == ["maximum"]


def test_the_maximum_of_two_layers_is_left_alone(from_torch, operators):
    class Larger(nn.Module):
        def forward(self, x):
            return torch.maximum(x, -x)

    case = from_torch(Larger(), torch.from_numpy(X))
    assert operators(case.module) == ["negative", "maximum"]
    assert case.difference() < 1e-6
