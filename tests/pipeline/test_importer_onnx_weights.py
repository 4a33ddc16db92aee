"""Large weights stand beside the graph, each once; what is left is a model of its own."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ModelNotReadable
from pipeline.importer.onnx_weights import take_weights, with_weights_as_inputs

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(8, 3, 3, 3)).astype("float32")
BIAS = RNG.normal(size=8).astype("float32")
SHIFT = RNG.normal(size=(8, 5, 5)).astype("float32")


def model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["shift"], value=numpy_helper.from_array(SHIFT)),
        helper.make_node("Conv", ["x", "kernel", "bias"], ["c"]),
        helper.make_node("Add", ["c", "shift"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 5, 5])],
        [numpy_helper.from_array(KERNEL, "kernel"), numpy_helper.from_array(BIAS, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_large_weights_are_taken_out_and_small_ones_stay():
    light, weights = take_weights(model())
    assert weights.keys() == {"kernel", "shift"}
    np.testing.assert_array_equal(weights["kernel"], KERNEL)
    np.testing.assert_array_equal(weights["shift"], SHIFT)
    assert [node.op_type for node in light.graph.node] == ["Conv", "Add"]
    initializers = {tensor.name: tensor for tensor in light.graph.initializer}
    assert list(initializers["kernel"].dims) == [8, 3, 3, 3]
    assert initializers.keys() == {"kernel", "bias", "shift"}
    np.testing.assert_array_equal(numpy_helper.to_array(initializers["bias"]), BIAS)
    assert light.ByteSize() < KERNEL.nbytes


def test_a_model_that_is_fed_its_weights_computes_the_same():
    whole = model()
    light, weights = take_weights(model())
    declared = with_weights_as_inputs(light, weights)
    onnx.checker.check_model(declared)
    x = {"x": RNG.normal(size=(1, 3, 7, 7)).astype("float32")}
    wanted, found = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(None, feeds)[0]
        for each, feeds in ((whole, x), (declared, {**x, **weights}))
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert [value.name for value in declared.graph.input] == ["x", "kernel", "shift"]
    assert [value.name for value in light.graph.input] == ["x"]


def test_a_weight_listed_as_an_input_too_is_fed_once():
    listed = model()
    listed.graph.input.append(helper.make_tensor_value_info("kernel", TensorProto.FLOAT, KERNEL.shape))
    light, weights = take_weights(listed)
    names = [value.name for value in with_weights_as_inputs(light, weights).graph.input]
    assert names == ["x", "kernel", "shift"]


def test_a_weight_that_holds_too_little_is_told():
    broken = model()
    broken.graph.initializer[0].raw_data = b"\0" * 8
    with pytest.raises(ModelNotReadable, match="weight 'kernel' cannot be read") as caught:
        take_weights(broken)
    assert "\n" not in str(caught.value)
