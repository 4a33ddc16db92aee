"""Long float16 sums are cut; what comes out is the same sum."""

import numpy as np
import pytest
import tvm
from tvm import relax

from pipeline.twin import evaluate
from relay_passes.graph import Graph, shape_of
from relay_passes.shorten_sums import ShortenSums


def module_of(built, channels: int, dtype: str = "float16", groups: int = 1) -> tvm.IRModule:
    """A 3x3 convolution with a bias; its numbers are small integers, which float16 sums up exactly."""
    generator = np.random.default_rng(0)
    weight = generator.integers(-1, 2, (4, channels // groups, 3, 3)).astype(dtype)

    def compute(builder: relax.BlockBuilder, x: relax.Var) -> relax.Expr:
        y = relax.op.nn.conv2d(x, relax.const(weight), padding=(1, 1), strides=(2, 2), groups=groups)
        return builder.emit(relax.op.add(builder.emit(y), relax.const(np.ones((1, 4, 1, 1), dtype))))

    return built((1, channels, 6, 6), compute, dtype)


def convolutions(module: tvm.IRModule) -> list[tuple[int, ...]]:
    graph = Graph(module)
    calls = (graph.call(var, "nn.conv2d") for var in graph.layers)
    return [shape_of(call.args[1]) for call in calls if call is not None]


@pytest.mark.parametrize(
    ("channels", "longest", "parts"),
    [
        (64, 288, [32, 32]),
        (64, 300, [32, 32]),
        (60, 288, [30, 30]),
        (37, 90, [10, 10, 10, 7]),
        (5, 4, [1] * 5),
    ],
)
def test_parts_sum_up_to_the_whole(built, channels: int, longest: int, parts: list[int]) -> None:
    module = module_of(built, channels)
    short = ShortenSums(longest)(module)
    assert relax.analysis.check_well_formed(short)
    assert [shape[1] for shape in convolutions(short)] == parts
    given = np.random.default_rng(1).integers(-1, 2, (1, channels, 6, 6)).astype("float16")
    (wanted,), (found,) = evaluate(module, [given]), evaluate(short, [given])
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, wanted)


def test_layers_keep_their_names_and_types(built) -> None:
    module = module_of(built, 64)
    before = {var.name: var.ty for var in Graph(module).layers}
    after = {var.name: var.ty for var in Graph(ShortenSums(100)(module)).layers}
    for name, type_ in before.items():
        tvm.ir.assert_structural_equal(after[name], type_)


@pytest.mark.parametrize("kept", [{"longest": 576}, {"dtype": "float32"}, {"groups": 2}])
def test_others_are_left_alone(built, kept: dict) -> None:
    longest = kept.pop("longest", 100)
    module = module_of(built, 64, **kept)
    assert ShortenSums(longest)(module).same_as(module)
