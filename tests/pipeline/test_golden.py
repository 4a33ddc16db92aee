"""Golden inputs are seeded; outputs come from the framework, also before the softmax."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ImportRefused
from pipeline.golden import onnx_golden, random_inputs, torch_golden
from pipeline.network import TensorSpec

SPEC = TensorSpec("x", (2, 3), "float32")


def onnx_model(nodes, outputs=("y",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.eye(3, dtype="float32") * 2, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_inputs_depend_on_the_seed_alone():
    first, again, other = (random_inputs([SPEC], seed)["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def test_integers_are_small_and_not_negative():
    values = random_inputs([TensorSpec("i", (100,), "int64")], 0)["i"]
    assert values.dtype == np.int64
    assert 0 <= values.min() < values.max() < 10


def test_onnx_outputs_before_and_after_the_softmax():
    inputs = random_inputs([SPEC], 0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["s"]),
        helper.make_node("Identity", ["s"], ["y"]),
    ]
    golden = onnx_golden(onnx_model(nodes), inputs, {})
    np.testing.assert_allclose(golden.logits["y"], 2 * inputs["x"], rtol=1e-6)
    np.testing.assert_allclose(golden.outputs["y"], softmax(2 * inputs["x"]), rtol=1e-5)


def test_onnx_outputs_without_softmax_are_their_own_logits():
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Softmax", ["x"], ["p"])]
    golden = onnx_golden(onnx_model(nodes, ("y", "p")), random_inputs([SPEC], 0), {})
    assert golden.logits["y"] is golden.outputs["y"]
    np.testing.assert_array_equal(golden.logits["p"], golden.inputs["x"])


def test_what_onnxruntime_cannot_run_is_told_in_one_line():
    nodes = [helper.make_node("Reshape", ["x", "w"], ["y"])]
    with pytest.raises(ImportRefused, match="onnxruntime cannot run the model") as caught:
        onnx_golden(onnx_model(nodes), random_inputs([SPEC], 0), {})
    assert "\n" not in str(caught.value)


def test_torch_outputs_before_and_after_the_softmax():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LogSoftmax(1)).eval()
    program = torch.export.export(module, (torch.zeros(2, 3),))
    inputs = {"input": random_inputs([SPEC], 0)["x"]}
    golden = torch_golden(program, inputs, {"output": program.graph_signature.user_outputs[0]})
    with torch.no_grad():
        logits = module[0](torch.from_numpy(inputs["input"]))
    np.testing.assert_array_equal(golden.logits["output"], logits.numpy())
    np.testing.assert_array_equal(golden.outputs["output"], logits.log_softmax(1).numpy())
