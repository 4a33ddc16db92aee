import numpy as np
import pytest
import tvm
from onnx.helper import make_node
from tvm import relax, topi

from relay_passes.canonicalize.raise_tensor_ir import raise_tensor_ir
from relay_passes.graph import Graph

X = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype("float32")


def test_pads_of_each_side(from_onnx, operators):
    weights = {"pads": np.array([0, 1, 2, 0, 0, 0, 3, 4]), "value": np.float32(1.5).reshape(())}
    case = from_onnx([make_node("Pad", ["x", "pads", "value"], ["y"])], {"x": X}, weights)
    assert operators(case.module) == ["nn.pad"]
    (layer,) = Graph(case.module).layers
    attributes = Graph(case.module).value[layer].attrs
    assert [int(width) for width in attributes.pad_width] == [0, 0, 1, 0, 2, 3, 0, 4]
    assert float(attributes.pad_value) == 1.5
    assert case.difference() < 1e-6


@pytest.mark.parametrize("operator", [topi.maximum, topi.minimum])
@pytest.mark.parametrize("is_number", [True, False])
def test_the_larger_and_the_smaller_of_two(built, operators, operator, is_number):
    other = 2.0 if is_number else relax.const(np.ones((1, 2, 3, 4), "float32"))
    module = built(X.shape, lambda builder, x: builder.emit_te(operator, x, other))
    assert operators(raise_tensor_ir(module)) == [operator.__name__]
    assert len(raise_tensor_ir(module).functions) == 1


@pytest.mark.parametrize(
    "program",
    [
        lambda x: topi.nn.softmax(x),
        lambda x: topi.exp(x),
        lambda x: topi.flip(x),
        lambda x: topi.maximum(x, topi.exp(x)),
    ],
)
def test_other_programs_stay(built, program):
    module = built(X.shape, lambda builder, x: builder.emit_te(program, x))
    raised = raise_tensor_ir(module)
    tvm.ir.assert_structural_equal(raised, module, map_free_vars=True)
