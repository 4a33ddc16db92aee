import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn
from tvm import relax

from relay_passes.canonicalize.respell_batch_norm import respell_batch_norm
from relay_passes.graph import Graph, array_of

X = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
STATISTICS = {
    "bn.weight": np.array([1.5, -0.5, 0.1], "float32"),
    "bn.bias": np.array([0.5, 0.0, -2.0], "float32"),
    "bn.mean": np.array([0.3, -0.3, 1.0], "float32"),
    "bn.var": np.array([2.0, 1e-3, 0.5], "float32"),
}


def _randomise(norm):
    for value, low in ((norm.running_mean, -1), (norm.running_var, 0.1), (norm.weight, -1), (norm.bias, -1)):
        if value is not None:
            value.data.uniform_(low, 1)
    return norm


def test_onnx_batch_norm_is_a_scale_and_a_shift(from_onnx, operators, names):
    node = make_node("BatchNormalization", ["x", *STATISTICS], ["y"], epsilon=1e-3)
    case = from_onnx([node], {"x": X}, STATISTICS)
    assert operators(case.module) == ["multiply", "add"]
    assert names(case.module) == ["bn", "bn.shift"]
    graph = Graph(case.module)
    assert [array_of(graph.value[var].args[1]).shape for var in graph.layers] == [(1, 3, 1, 1)] * 2
    assert case.difference() < 1e-6


@pytest.mark.parametrize("affine", [True, False])
def test_torch_batch_norm(from_torch, operators, affine):
    case = from_torch(_randomise(nn.BatchNorm2d(3, affine=affine)), torch.from_numpy(X))
    assert operators(case.module) == ["multiply", "add"]
    assert case.difference() < 1e-6


def test_batch_norm_of_vectors(from_torch):
    case = from_torch(_randomise(nn.BatchNorm1d(3)), torch.randn(4, 3))
    assert case.difference() < 1e-6


def _norm(built, statistics, **attributes):
    def compute(builder, x):
        return builder.emit(builder.emit(relax.op.nn.batch_norm(x, *statistics, axis=1, **attributes))[0])

    return built((2, 3, 4, 4), compute)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_gamma_and_beta_count_only_if_the_operator_says_so(built, center, scale):
    constants = [relax.const(value) for value in STATISTICS.values()]
    module = respell_batch_norm(_norm(built, constants, center=center, scale=scale, training=False))
    graph = Graph(module)
    multiply, add = (array_of(graph.value[var].args[1]).reshape(-1) for var in graph.layers)
    gamma, beta, mean, variance = STATISTICS.values()
    expected = (gamma if scale else 1) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(multiply, expected, rtol=1e-5)
    np.testing.assert_allclose(add, (beta if center else 0) - mean * expected, rtol=1e-5, atol=1e-6)


def test_a_batch_norm_in_training_is_left_alone(built, operators):
    constants = [relax.const(value) for value in STATISTICS.values()]
    module = respell_batch_norm(_norm(built, constants, training=True))
    assert "nn.batch_norm" in operators(module)


def test_other_outputs_of_the_norm_stay(built, operators):
    constants = [relax.const(value) for value in STATISTICS.values()]

    def compute(builder, x):
        norm = builder.emit(relax.op.nn.batch_norm(x, *constants, axis=1, training=False))
        return builder.emit(norm[0]), builder.emit(norm[1])

    assert operators(respell_batch_norm(built((2, 3, 4, 4), compute))) == [
        "nn.batch_norm",
        "multiply",
        "add",
        "item",
    ]
