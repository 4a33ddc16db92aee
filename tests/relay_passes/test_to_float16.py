"""Which layers become float16, and that they compute what they did, to float16's precision."""

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

from pipeline.twin import evaluate
from relay_passes.graph import Graph
from relay_passes.to_float16 import HALF, SINGLE, ToFloat16

ROUNDOFF = 2.0**-11


def types(module: tvm.IRModule) -> dict[str, str]:
    return {var.name: str(var.ty.dtype) for var in Graph(module).layers}


def types_of_kinds(module: tvm.IRModule) -> dict[str, set[str]]:
    graph = Graph(module)
    found: dict[str, set[str]] = {}
    for var in graph.layers:
        found.setdefault(graph.kind(graph.value[var]), set()).add(str(var.ty.dtype))
    return found


class Classifier(nn.Module):
    """Every kind of layer that matters: norms, pools, a branch, an activation with an exponent, a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.lrn = nn.LocalResponseNorm(5)
        self.left = nn.Conv2d(16, 8, 1)
        self.right = nn.Conv2d(16, 8, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(16, 16, 2, 2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lrn(nn.functional.max_pool2d(torch.relu(self.stem(x)), 2))
        x = torch.cat([torch.relu(self.left(x)), nn.functional.silu(self.right(x))], 1)
        x = nn.functional.avg_pool2d(self.up(x), 2)
        return torch.softmax(self.head(x.mean((2, 3))), 1)


def test_layers_with_weights_are_float16_and_delicate_ones_are_not(from_torch) -> None:
    case = from_torch(Classifier(), torch.randn(2, 3, 16, 16))
    found = types_of_kinds(ToFloat16()(case.module))
    half, single = ("conv2d", "conv2d_transpose", "relu", "concat", "avg_pool2d"), ("silu", "mean", "softmax")
    assert {kind: found[kind] for kind in (*half, *single, "lrn", "matmul")} == {
        **{kind: {HALF} for kind in half},
        **{kind: {SINGLE} for kind in (*single, "lrn", "matmul")},
    }


def test_a_converted_network_computes_the_same_to_its_precision(from_torch) -> None:
    case = from_torch(Classifier(), torch.randn(2, 3, 16, 16))
    module = ToFloat16()(case.module)
    assert relax.analysis.check_well_formed(module)
    assert 0 < case.difference(module) < 16 * ROUNDOFF


def test_inputs_and_outputs_keep_their_types(built) -> None:
    def compute(builder: relax.BlockBuilder, x: relax.Var) -> tuple[relax.Expr, ...]:
        first = builder.emit(relax.op.nn.conv2d(x, relax.const(np.ones((4, 3, 1, 1), "float32"))))
        second = builder.emit(relax.op.nn.conv2d(first, relax.const(np.ones((2, 4, 1, 1), "float32"))))
        parts = builder.emit(relax.op.split(second, 2, axis=1))
        return first, second, builder.emit(parts[0])

    module = built((1, 3, 4, 4), compute)
    converted = ToFloat16()(module)
    given = np.random.default_rng(0).integers(-4, 4, (1, 3, 4, 4)).astype("float32")
    assert [str(output.ty.dtype) for output in Graph(converted).outputs] == [SINGLE] * 3
    for output, wanted in zip(evaluate(converted, [given]), evaluate(module, [given]), strict=True):
        assert output.dtype == np.float32
        np.testing.assert_array_equal(output, wanted)


def test_a_layer_that_is_to_be_kept_stays_float32(from_torch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        network[0].weight.fill_(1e5)
    case = from_torch(network, torch.rand(1, 1, 4, 4) + 1)
    assert not np.isfinite(evaluate(ToFloat16()(case.module), case.inputs)[0]).all()

    names = [var.name for var in Graph(case.module).layers]
    module = ToFloat16(names[:-2])(case.module)
    assert [types(module)[name] for name in names[:-2]] == [SINGLE] * len(names[:-2])
    assert HALF in types(ToFloat16(names[:2])(case.module)).values()


def test_weights_are_stored_in_float16(from_torch) -> None:
    case = from_torch(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2)), torch.randn(1, 3, 4, 4)
    )
    graph = Graph(ToFloat16()(case.module))
    constants = {
        var.name: str(argument.ty.dtype)
        for var in graph.layers
        for argument in graph.value[var].args
        if isinstance(argument, tvm.ir.GenericConst)
    }
    assert constants.pop("2.bias") == SINGLE, "what a matrix product sums up is float32"
    assert set(constants.values()) == {HALF}


def test_wide_averages_are_float32(built) -> None:
    def compute(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        wide = builder.emit(relax.op.nn.avg_pool2d(x, (9, 9), (9, 9)))
        small = builder.emit(relax.op.nn.avg_pool2d(wide, (2, 2)))
        return builder.emit(relax.op.nn.conv2d(small, relax.const(np.ones((1, 1, 1, 1), "float32"))))

    graph = Graph(ToFloat16()(built((1, 1, 18, 18), compute)))
    pools = [str(var.ty.dtype) for var in graph.layers if graph.call(var, "nn.avg_pool2d") is not None]
    assert pools == [SINGLE, HALF]


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_other_types_stay(built, dtype: str) -> None:
    def compute(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        weight = relax.const(np.ones((1, 1, 1, 1)), dtype)
        return builder.emit(relax.op.add(builder.emit(relax.op.nn.conv2d(x, weight)), relax.const(1, dtype)))

    module = built((1, 1, 2, 2), compute, dtype)
    assert types(ToFloat16()(module)) == types(module)
