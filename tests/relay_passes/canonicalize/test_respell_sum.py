import numpy as np
import pytest
from onnx.helper import make_node
from tvm import relax

from relay_passes.canonicalize.respell_sum import respell_sum


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_onnx_sum_is_a_row_of_additions(from_onnx, operators, count):
    rng = np.random.default_rng(0)
    inputs = {f"x{i}": rng.normal(size=(1, 3, 4, 4)).astype("float32") for i in range(count)}
    nodes = [make_node("Sum", list(inputs), ["s"]), make_node("Relu", ["s"], ["y"])]
    case = from_onnx(nodes, inputs, {})
    assert operators(case.module) == ["add"] * (count - 1) + ["nn.relu"]
    assert case.difference() < 1e-6


def test_the_same_term_twice(from_onnx, operators):
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype("float32")
    case = from_onnx([make_node("Sum", ["x", "x", "x"], ["y"])], {"x": x}, {})
    assert operators(case.module) == ["add", "add"]
    assert case.difference() < 1e-6


def test_terms_of_different_shapes_stay_right(from_onnx):
    rng = np.random.default_rng(0)
    inputs = {
        "a": rng.normal(size=(1, 3, 4, 4)).astype("float32"),
        "b": rng.normal(size=(3, 1, 1)).astype("float32"),
    }
    case = from_onnx([make_node("Sum", ["a", "b"], ["y"])], inputs, {})
    assert case.difference() < 1e-6


def test_a_sum_over_another_axis_of_a_stack_is_left_alone(built, operators):
    def compute(builder, x):
        stack = builder.emit(relax.op.stack(relax.Tuple([x, x]), axis=0))
        return relax.op.sum(stack, axis=[1])

    module = built((2, 3), compute)
    assert operators(respell_sum(module)) == ["stack", "sum"]
