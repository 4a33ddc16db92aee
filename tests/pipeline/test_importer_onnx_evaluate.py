"""Single nodes on constants: numpy where it can, onnxruntime where not, None where neither."""

import numpy as np
import pytest
from onnx import helper

from pipeline.importer.onnx_evaluate import evaluate_node

NUMBERS = np.arange(6, dtype="float32").reshape(2, 3)


def evaluated(operator: str, opset: int = 13, outputs: tuple[str, ...] = ("y",), **attributes):
    known = {
        "x": NUMBERS,
        "q": NUMBERS.astype("int8"),
        "scale": np.array(0.5, "float32"),
        "zero": np.array(2, "int8"),
    }
    inputs = ["q", "scale", "zero"] if operator == "DequantizeLinear" else ["x"]
    node = helper.make_node(operator, inputs, list(outputs), **attributes)
    return evaluate_node(node, known, [helper.make_opsetid("", opset)])


def test_a_node_is_computed():
    np.testing.assert_array_equal(evaluated("Neg")["y"], -NUMBERS)


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
def test_what_one_evaluator_lacks_the_other_computes(opset):
    np.testing.assert_allclose(evaluated("DequantizeLinear", opset)["y"], (NUMBERS - 2) / 2)


def test_several_outputs_come_by_name():
    found = evaluated("Split", outputs=("a", "b"), axis=0)
    np.testing.assert_array_equal(found["b"], NUMBERS[1:])


def test_what_neither_computes_is_none():
    assert evaluated("Conv") is None
    assert evaluated("NoSuchOperator") is None
