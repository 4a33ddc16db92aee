"""Names in the exported graph, and what leaves it."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import tvm
from tvm import relax
from tvm.relax import op

from pipeline.exporter import to_onnx
from pipeline.twin import evaluate
from relay_passes.canonicalize.respell_lrn import lrn_function

SHAPE = (1, 4, 6, 6)


def weight(*shape: int) -> relax.Expr:
    return relax.const(np.random.default_rng(1).normal(size=shape).astype("float32"))


def module(
    build: Callable[[relax.BlockBuilder, Callable, relax.Var], tuple[relax.Expr, ...]], name: str = "x"
) -> tvm.IRModule:
    """A network of the layers that `build` adds by name to its input."""
    builder = relax.BlockBuilder()
    x = relax.Var(name, relax.TensorType(SHAPE, "float32"))

    def layer(called: str, value: relax.Expr) -> relax.Var:
        value = builder.normalize(value)
        var = relax.DataflowVar(called, value.ty)
        builder.emit_normalized(relax.VarBinding(var, value))
        return var

    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(relax.Tuple(list(build(builder, layer, x))))
        builder.emit_func_output(result)
    return builder.finalize()


def check(built: tvm.IRModule, model: onnx.ModelProto) -> None:
    """The model computes what the module does."""
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    data = model.SerializeToString()
    onnx.checker.check_model(data, full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, {model.graph.input[0].name: x})
    for value, wanted in zip(found, evaluate(built, [x]), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)


def nodes(model: onnx.ModelProto) -> list[tuple[str, str, list[str], list[str]]]:
    return [(each.name, each.op_type, list(each.input), list(each.output)) for each in model.graph.node]


def conv_block(builder, layer, x):
    y = layer("conv1/7x7", op.nn.conv2d(x, weight(4, 4, 3, 3), padding=1))
    y = layer("bn.shift", op.add(y, weight(1, 4, 1, 1)))
    y = layer("relu_1", op.nn.relu(y))
    y = layer("scale", op.multiply(y, weight(1, 4, 1, 1)))
    y = layer("act", op.nn.prelu(y, weight(4), axis=1))
    return (layer("silu", op.nn.silu(y)),)


def test_layers_and_weights_have_their_names():
    built = module(conv_block)
    model = to_onnx(built, name="netz", outputs=["y"])
    check(built, model)
    assert nodes(model) == [
        ("conv1/7x7", "Conv", ["x", "conv1/7x7.weight", "conv1/7x7.bias"], ["conv1/7x7"]),
        ("relu_1", "Relu", ["conv1/7x7"], ["relu_1"]),
        ("scale", "Mul", ["relu_1", "scale.scale"], ["scale"]),
        ("act", "PRelu", ["scale", "act.slope"], ["act"]),
        ("silu/Sigmoid", "Sigmoid", ["act"], ["silu/Sigmoid"]),
        ("silu", "Mul", ["act", "silu/Sigmoid"], ["y"]),
    ]
    assert model.graph.name == "netz"


def test_names_of_any_characters_that_are_taken_already():
    def build(builder, layer, x):
        y = layer("données: ß\n\"'/%", op.nn.conv2d(x, weight(4, 4, 1, 1)))
        y = layer("conv.weight", op.nn.relu(y))
        y = layer("conv", op.nn.conv2d(y, weight(4, 4, 1, 1)))
        return (layer("conv", op.nn.relu(y)), layer("逆", op.tanh(y)))

    built = module(build, name="données: ß\n\"'/%")
    model = to_onnx(built, outputs=["conv", "conv_2"])
    check(built, model)
    assert [value.name for value in model.graph.input] == ["données: ß\n\"'/%"]
    assert [value.name for value in model.graph.output] == ["conv", "conv_2"]
    assert [each.name for each in model.graph.node] == [
        "données: ß\n\"'/%",
        "conv.weight",
        "conv",
        "conv_2",
        "逆",
    ]


def test_a_bias_of_a_layer_with_two_readers_stays_an_addition():
    def build(builder, layer, x):
        y = layer("conv", op.nn.conv2d(x, weight(4, 4, 1, 1)))
        return (layer("sum", op.add(layer("conv.bias", op.add(y, weight(1, 4, 1, 1))), y)),)

    built = module(build)
    model = to_onnx(built)
    check(built, model)
    assert [each.op_type for each in model.graph.node] == ["Conv", "Add", "Add"]


def test_a_bias_of_a_layer_that_leaves_the_network_stays_an_addition():
    def build(builder, layer, x):
        y = layer("conv", op.nn.conv2d(x, weight(4, 4, 1, 1)))
        return layer("conv.bias", op.add(y, weight(1, 4, 1, 1))), y

    built = module(build)
    check(built, to_onnx(built))


def test_inputs_constants_and_repeated_values_as_outputs():
    def build(builder, layer, x):
        y = layer("relu", op.nn.relu(x))
        return x, y, y, layer("ones", op.ones_like(x))

    built = module(build)
    model = to_onnx(built, outputs=["a", "b", "c", "d"])
    check(built, model)
    assert [each.op_type for each in model.graph.node] == ["Relu", *["Identity"] * 3]
    assert model.graph.node[0].output == ["b"]


def test_a_shared_weight_is_written_once():
    def build(builder, layer, x):
        shared = weight(4, 4, 1, 1)
        return (layer("second", op.nn.conv2d(layer("first", op.nn.conv2d(x, shared)), shared)),)

    built = module(build)
    model = to_onnx(built)
    check(built, model)
    assert [each.name for each in model.graph.initializer] == ["first.weight"]


def test_parts_of_a_split():
    def build(builder, layer, x):
        parts = layer("halves", op.split(x, [1, 3], 1))
        middle = layer("middle", relax.TupleGetItem(parts, 1))
        return layer("relu", op.nn.relu(middle)), layer("last", relax.TupleGetItem(parts, 2))

    built = module(build)
    model = to_onnx(built, outputs=["y", "z"])
    check(built, model)
    assert nodes(model)[0] == ("halves", "Split", ["x", "halves.split"], ["halves.0", "halves.1", "z"])


def test_local_response_norm():
    def build(builder, layer, x):
        function = lrn_function(x.ty, size=3, alpha=0.4, beta=0.7, bias=1.5)
        return (layer("norm1", relax.Call(builder.add_func(function, "lrn"), [x])),)

    built = module(build)
    model = to_onnx(built)
    check(built, model)
    assert [(each.name, each.op_type) for each in model.graph.node] == [("norm1", "LRN")]


def test_what_the_file_says_of_itself():
    model = to_onnx(module(conv_block), description="for timing only", properties={"a": "ß"})
    assert (model.producer_name, model.doc_string) == ("deeprebirth", "for timing only")
    assert {each.key: each.value for each in model.metadata_props} == {"a": "ß"}
    assert model.opset_import[0].version == 17
