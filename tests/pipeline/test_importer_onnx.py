"""ONNX: the cases that importers get wrong or refuse badly, on models of one to five nodes.

A model that is imported has been compared with onnxruntime by the importer itself; the tests check again
where a size or a value is at stake.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import ImportRefused, ModelNotReadable, ShapeNeeded, UserError
from pipeline.importer import load_network
from pipeline.network import Network
from pipeline.twin import evaluate

IMAGE = (1, 3, 17, 17)
GENERATOR = np.random.default_rng(0)
KERNEL = GENERATOR.normal(size=(4, 3, 3, 3)).astype("float32")
CHANNELS = GENERATOR.uniform(0.5, 1, 3).astype("float32")

node = helper.make_node


@pytest.fixture
def load(tmp_path: Path):
    """Write a model with the input x and import it."""

    def write_and_load(
        nodes: Sequence[onnx.NodeProto],
        shape: Sequence[int | str] = IMAGE,
        outputs: Sequence[str] = ("y",),
        weights: Mapping[str, np.ndarray] | None = None,
        opset: int = 13,
        input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Network:
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
        )
        opsets = [helper.make_opsetid("", opset)]
        path = tmp_path / "modèle à un nœud.onnx"
        onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return load_network(path, input_shapes=input_shapes)

    return write_and_load


def refusal(load, *arguments, error: type[UserError] = ImportRefused, **options) -> str:
    with pytest.raises(error) as caught:
        load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def layers(network: Network) -> list[str]:
    return [binding.var.name for block in network.module["main"].body.blocks for binding in block.bindings]


# I1


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (2, 3), (3, 1)])
def test_same_padding_keeps_ceil_of_size_over_stride(load, operator, mode, kernel, stride):
    options = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "auto_pad": mode}
    height, width = -(-11 // stride), -(-10 // stride)
    network = load([node(operator, ["x"], ["y"], "pool", **options)], (1, 3, 11, 10))
    assert network.outputs[0].shape == (1, 3, height, width)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_that_is_counted(load, mode):
    options = {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": mode, "count_include_pad": 1}
    load([node("AveragePool", ["x"], ["y"], **options)], (1, 3, 11, 11))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_of_uneven_and_grouped_convolutions(load, mode):
    nodes = [
        node("Conv", ["x", "w"], ["c"], strides=[2, 1], auto_pad=mode),
        node("Conv", ["c", "depthwise"], ["y"], group=4, auto_pad=mode),
    ]
    weights = {"w": KERNEL, "depthwise": KERNEL[:, :1]}
    assert load(nodes, weights=weights).outputs[0].shape == (1, 4, 9, 17)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("size", [10, 11])
def test_automatic_padding_of_convolutions(load, mode, size):
    conv = node("Conv", ["x", "w"], ["c"], "conv", strides=[2, 2], auto_pad=mode)
    up = node("ConvTranspose", ["c", "w"], ["y"], "up", strides=[2, 2], auto_pad=mode)
    load([conv, up], (1, 3, size, size), weights={"w": KERNEL})


def test_the_output_size_of_a_transposed_convolution(load):
    up = node("ConvTranspose", ["x", "w"], ["y"], "up", strides=[2, 2], output_shape=[22, 22])
    network = load([up], (1, 4, 11, 11), weights={"w": KERNEL})
    assert network.outputs[0].shape == (1, 3, 22, 22)


def test_a_symbolic_size_is_refused_with_node_and_dimension(load):
    pool = node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2, 2], auto_pad="SAME_LOWER")
    message = refusal(load, [pool], (1, 3, 11, "width"), error=ShapeNeeded)
    for part in ("'x'", "dimension 3", "'width'", "MaxPool 'pool'", "--input-shape x:1x3x11x"):
        assert part in message


@pytest.mark.parametrize(("operator", "inputs"), [("AveragePool", ["x"]), ("Conv", ["x", "w"])])
def test_same_padding_with_dilation_is_refused(load, operator, inputs):
    options = {"kernel_shape": [3, 3], "dilations": [2, 2], "auto_pad": "SAME_UPPER"}
    message = refusal(
        load, [node(operator, inputs, ["y"], "wide", **options)], weights={"w": KERNEL}, opset=19
    )
    assert f"{operator} 'wide'" in message
    assert "dilation" in message


# I2, I3, I5, I6


@pytest.mark.parametrize(("operator", "size", "wanted"), [("AveragePool", 17, 9), ("MaxPool", 11, 6)])
def test_a_ceil_window_wholly_in_padding_is_left_out(load, operator, size, wanted):
    pool = node(operator, ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, ceil_mode=1)
    network = load([pool], (1, 3, size, size))
    assert network.outputs[0].shape == (1, 3, wanted, wanted)
    assert np.isfinite(network.golden.outputs["y"]).all()


def test_sizes_after_a_ceil_pool_are_folded_right(load):
    """ONNX's shape inference says 7x7 after the pool, which is 6x6."""
    nodes = [
        node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, ceil_mode=1),
        node("Shape", ["p"], ["s"]),
        node("Slice", ["s", "two", "four"], ["size"]),
        node("Concat", ["one", "size"], ["shape"], axis=0),
        node("Expand", ["w", "shape"], ["y"]),
    ]
    weights = {
        "two": np.array([2]),
        "four": np.array([4]),
        "one": np.array([1, 3]),
        "w": CHANNELS.reshape(1, 3, 1, 1),
    }
    nodes.append(node("Add", ["p", "y"], ["z"]))
    assert load(nodes, (1, 3, 11, 11), ("z",), weights).outputs[0].shape == (1, 3, 6, 6)


@pytest.mark.parametrize("opset", [11, 19, 22])
@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(("size", "stride"), [(16, 2), (12, 3)])
def test_the_border_of_an_average_pool_with_ceil(load, opset, counted, size, stride):
    options = {"kernel_shape": [3, 3], "pads": [1] * 4, "ceil_mode": 1, "count_include_pad": counted}
    load(
        [node("AveragePool", ["x"], ["y"], strides=[stride] * 2, **options)], (1, 3, size, size), opset=opset
    )


def test_padding_never_wins_a_max_pool(load):
    network = load([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])])
    (pooled,) = evaluate(network.module, [-1 - np.abs(network.golden.inputs["x"])])
    assert pooled.max() < -1


# I7


FLATTEN = [
    node("Shape", ["x"], ["s"]),
    node("Gather", ["s", "zero"], ["n"], axis=0),
    node("Unsqueeze", ["n", "axis"], ["n1"]),
    node("Concat", ["n1", "rest"], ["shape"], axis=0),
    node("Reshape", ["x", "shape"], ["y"], "flatten"),
]
FLATTEN_WEIGHTS = {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([-1])}


def test_a_shape_computed_from_a_fixed_size_is_folded(load):
    network = load(FLATTEN, (2, 3, 4, 4), weights=FLATTEN_WEIGHTS)
    assert layers(network) == ["flatten", "gv"]
    assert network.outputs[0].shape == (2, 48)


def test_a_shape_computed_from_a_symbolic_size_needs_it(load):
    message = refusal(load, FLATTEN, ("N", 3, 4, 4), weights=FLATTEN_WEIGHTS, error=ShapeNeeded)
    assert "--input-shape x:1x3x4x4" in message


def test_a_size_given_fixes_a_symbolic_one(load):
    network = load(FLATTEN, ("N", 3, 4, 4), weights=FLATTEN_WEIGHTS, input_shapes={"x": (5, 3, 4, 4)})
    assert network.inputs[0].shape == (5, 3, 4, 4)
    assert network.outputs[0].shape == (5, 48)


def test_a_negative_size_is_an_open_one(load):
    relu = node("Relu", ["x"], ["y"])
    assert "--input-shape x:1x3x224x4" in refusal(load, [relu], (-1, 3, -1, 4), error=ShapeNeeded)
    assert load([relu], (-1, 3, -1, 4), input_shapes={"x": (2, 3, 5, 4)}).outputs[0].shape == (2, 3, 5, 4)


def test_a_shape_computed_from_values_is_refused(load):
    nodes = [node("Cast", ["x"], ["s"], to=TensorProto.INT64), node("Reshape", ["x", "s"], ["y"], "odd")]
    assert "Reshape 'odd': its shape is computed at run time" in refusal(load, nodes, (4,))


@pytest.mark.parametrize(
    ("shapes", "part"),
    [
        ({"x": (1, 4, 9, 9)}, "1x4x9x9 contradicts"),
        ({"z": (1,)}, "inputs are x"),
        ({"x": (1, 3, 0, 9)}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_told(load, shapes, part):
    assert part in refusal(load, [node("Relu", ["x"], ["y"])], (1, 3, "h", 9), input_shapes=shapes)


# I8, I9


def test_batch_norm_in_training_mode_is_refused(load):
    """Before opset 14 there is no such mode; all five outputs stand for it."""
    old = node("BatchNormalization", ["x", *"wwww"], ["y", "mean", "var", "m", "v"], "norm")
    assert "'norm': batch norm in training mode" in refusal(load, [old], weights={"w": CHANNELS}, opset=9)
    norm = node("BatchNormalization", ["x", *"wwww"], ["y", "mean", "var"], "norm", training_mode=1)
    message = refusal(load, [norm], weights={"w": CHANNELS}, opset=15)
    assert "BatchNormalization 'norm': batch norm in training mode" in message


def test_a_used_second_output_of_batch_norm_is_refused(load):
    norm = node("BatchNormalization", ["x", *"wwww"], ["y", "mean", "var", "m", "v"], "norm")
    message = refusal(load, [norm], outputs=("y", "mean"), weights={"w": CHANNELS}, opset=9)
    assert "'mean', a batch statistic, is used" in message


def test_outputs_of_batch_norm_without_names_are_none(load):
    norm = node("BatchNormalization", ["x", *"wwww"], ["y", "", "", "", ""], "norm")
    load([norm], weights={"w": CHANNELS}, opset=9)


def test_batch_norm_with_statistics_for_each_place_is_refused(load):
    norm = node("BatchNormalization", ["x", *"wwww"], ["y"], "norm", spatial=0)
    weights = {"w": np.ones((3, 17, 17), "float32")}
    assert "'norm': spatial=0" in refusal(load, [norm], weights=weights, opset=7)


# I10, I11, I12


CLASSIFIER_WEIGHTS = {
    "conv.weight": KERNEL,
    "conv.bias": KERNEL[:, 0, 0, 0],
    "norm.scale": KERNEL[:, 0, 0, 1] ** 2 + 0.5,
    "norm.shift": KERNEL[:, 0, 0, 2],
    "norm.mean": KERNEL[:, 0, 1, 0],
    "norm.variance": KERNEL[:, 0, 1, 1] ** 2 + 0.5,
    "slope": KERNEL[:, 0, 1, 2].reshape(4, 1, 1),
    "factor": KERNEL[:, 0, 2, 0].reshape(4, 1, 1),
    "dense.weight": GENERATOR.normal(size=(5, 64)).astype("float32"),
    "dense.bias": GENERATOR.normal(size=5).astype("float32"),
}
NORM = ("norm.scale", "norm.shift", "norm.mean", "norm.variance")
CLASSIFIER = [
    node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], pads=[1] * 4),
    node(
        "BatchNormalization",
        ["c", *(f"norm.{each}" for each in ("scale", "shift", "mean", "variance"))],
        ["n"],
    ),
    node("PRelu", ["n", "slope"], ["r"]),
    node("Mul", ["r", "factor"], ["f"]),
    node("MaxPool", ["f"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
    node("AveragePool", ["p"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
    node("Flatten", ["a"], ["flat"]),
    node("Gemm", ["flat", "dense.weight", "dense.bias"], ["l"], transB=1),
    node("Softmax", ["l"], ["y"]),
]


@pytest.mark.parametrize("opset", range(7, 23))
def test_every_opset_from_7_to_22(load, opset):
    assert "conv" in layers(load(CLASSIFIER, weights=CLASSIFIER_WEIGHTS, opset=opset))


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_other_opsets_are_refused(load, opset):
    message = refusal(load, CLASSIFIER, weights=CLASSIFIER_WEIGHTS, opset=opset, error=ModelNotReadable)
    assert f"is of opset {opset}: export it with one from 7 to " in message


def test_constant_nodes_are_weights_in_every_role(load):
    made = [
        node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in CLASSIFIER_WEIGHTS.items()
    ]
    assert layers(load([*made, *CLASSIFIER])) == layers(load(CLASSIFIER, weights=CLASSIFIER_WEIGHTS))


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("version", [3, 4, 8])
def test_weights_may_be_listed_as_inputs_or_not(load, tmp_path, listed, version):
    """In version 3 of the file format they had to be, which not all exporters cared about."""
    load([node("Conv", ["x", "w"], ["y"])], weights={"w": KERNEL})
    model = onnx.load_model(tmp_path / "modèle à un nœud.onnx")
    model.ir_version = version
    if listed:
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, KERNEL.shape))
    onnx.save_model(model, tmp_path / "old.onnx")
    assert [spec.name for spec in load_network(tmp_path / "old.onnx").inputs] == ["x"]


def test_quantised_weights_of_a_float_convolution_are_folded(load):
    nodes = [
        node("DequantizeLinear", ["q", "scale", "zero"], ["conv.weight"]),
        node("Conv", ["x", "conv.weight"], ["y"]),
    ]
    weights = {"q": (KERNEL * 9).astype("int8"), "scale": np.float32(0.1), "zero": np.int8(1)}
    assert layers(load(nodes, weights=weights))[0] == "conv"


def test_weights_kept_in_half_precision_are_folded(load):
    nodes = [node("Cast", ["half"], ["conv.weight"], to=1), node("Conv", ["x", "conv.weight"], ["y"])]
    assert layers(load(nodes, weights={"half": KERNEL.astype("float16")}))[0] == "conv"


def test_computing_in_half_precision_is_refused(load):
    nodes = [
        node("Cast", ["x"], ["h"], "down", to=TensorProto.FLOAT16),
        node("Conv", ["h", "w"], ["c"], "conv"),
        node("Cast", ["c"], ["y"], "up", to=TensorProto.FLOAT),
    ]
    message = refusal(load, nodes, weights={"w": KERNEL.astype("float16")})
    assert message == "half precision in Cast 'down' and 1 more: export the model in float32"


def test_constant_nodes_are_weights_and_a_norm_may_have_two_users(load):
    nodes = [
        node("Constant", [], ["conv.weight"], value=numpy_helper.from_array(KERNEL)),
        node("Conv", ["x", "conv.weight"], ["c"]),
        node("BatchNormalization", ["c", *"wwww"], ["n"], "norm"),
        node("Relu", ["n"], ["r"]),
        node("Add", ["n", "r"], ["y"]),
    ]
    assert layers(load(nodes, weights={"w": np.ones(4, "float32")}))[0] == "conv"


def test_all_unsupported_operators_are_named_with_their_nodes(load):
    branch = {
        f"{name}_branch": helper.make_graph(
            [node(operator, ["x"], ["b"], f"in {name}")],
            name,
            [],
            [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "Relu"), ("else", "Det"))
    }
    nodes = [
        node("LSTM", ["x", "w", "w"], ["q"], "lstm1", hidden_size=4),
        node("LSTM", ["q", "w", "w"], ["r"], "lstm2", hidden_size=4),
        node("ConvInteger", ["r", "w"], ["z"]),
        node("If", ["condition"], ["i"], "choice", **branch),
        node("FusedConv", ["i", "w"], ["y"], "fused", domain="com.microsoft"),
    ]
    weights = {"w": KERNEL, "condition": np.array(True)}
    message = refusal(load, nodes, ("N", 3, 17), weights=weights)
    for part in (
        "LSTM (lstm1, lstm2)",
        "ConvInteger (z)",
        "If (choice)",
        "Det (in else)",
        "FusedConv (fused)",
    ):
        assert part in message


def test_made_weights_are_constants_and_sums_additions(load):
    half = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
    nodes = [
        node("ConstantOfShape", ["shape"], ["conv_w"], value=half),
        node("Conv", ["x", "conv_w"], ["c"]),
        node("Sum", ["c", "c"], ["d"]),
        node("Sum", ["c", "d", "d"], ["y"]),
    ]
    network = load(nodes, weights={"shape": np.array([4, 3, 3, 3])})
    assert layers(network) == ["conv", "d", "y.add", "y", "gv"]


@pytest.mark.parametrize(
    ("operator", "inputs", "weights"),
    [
        ("ConstantOfShape", ["shape"], {"shape": np.array([10**6, 10**6])}),
        ("Expand", ["one", "shape"], {"one": np.ones(1, "float32"), "shape": np.array([10**6, 10**6])}),
        ("Tile", ["one", "times"], {"one": np.ones(1, "float32"), "times": np.array([10**12])}),
        ("Range", ["a", "b", "c"], {"a": np.float32(0), "b": np.float32(1e12), "c": np.float32(1)}),
    ],
)
def test_a_constant_larger_than_memory_is_refused(load, operator, inputs, weights):
    nodes = [node(operator, inputs, ["made"], "huge"), node("Add", ["x", "made"], ["y"])]
    assert f"{operator} 'huge' makes a constant" in refusal(load, nodes, weights=weights)


def test_an_input_larger_than_memory_is_refused(load):
    message = refusal(load, [node("Relu", ["x"], ["y"])], (10**6, 10**7))
    assert "input 'x' of 1000000x10000000 has more than" in message


# Odd graphs


RELU = node("Relu", ["x"], ["y"])


@pytest.mark.parametrize(
    ("outputs", "nodes"),
    [
        pytest.param(("y", "x"), [RELU], id="an input too"),
        pytest.param(("x",), [RELU], id="an input alone"),
        pytest.param(("y",), [node("Identity", ["x"], ["y"])], id="an input under another name"),
        pytest.param(("y", "w"), [node("Conv", ["x", "w"], ["y"])], id="a weight"),
        pytest.param(("y", "small"), [RELU], id="a small weight"),
        pytest.param(("z", "y"), [RELU, node("Neg", ["y"], ["z"])], id="a layer inside"),
        pytest.param(("z", "y"), [RELU, node("Identity", ["y"], ["z"])], id="one layer twice"),
        pytest.param(("y",), [RELU, node("Neg", ["x"], ["unused"])], id="not all layers"),
    ],
)
def test_the_network_may_return(load, nodes, outputs):
    network = load(nodes, outputs=outputs, weights={"w": KERNEL, "small": CHANNELS, "unused weight": KERNEL})
    assert [spec.name for spec in network.outputs] == list(outputs)


def test_equal_and_missing_node_names(load):
    nodes = [
        node("Conv", ["x", "w"], ["a"], "conv"),
        node("Conv", ["a", "v"], ["b"], "conv"),
        node("Conv", ["b", "v"], ["y"]),
    ]
    found = layers(
        load(nodes, weights={"w": KERNEL, "v": GENERATOR.normal(size=(4, 4, 3, 3)).astype("float32")})
    )
    assert len(set(found)) == len(found)


def test_a_network_without_inputs_is_refused(tmp_path):
    graph = helper.make_graph(
        [node("Neg", ["w"], ["y"])],
        "graph",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(KERNEL, "w")],
    )
    onnx.save_model(helper.make_model(graph, ir_version=8), tmp_path / "constant.onnx")
    with pytest.raises(ImportRefused, match="the model has no input"):
        load_network(tmp_path / "constant.onnx")


@pytest.mark.parametrize(
    ("nodes", "outputs", "part"),
    [
        ([node("Neg", ["r"], ["y"]), node("Relu", ["x"], ["r"])], ("y",), "topologically sorted"),
        ([node("Relu", ["x"], ["y"])], ("y", "y"), "output 'y' is there twice"),
        (
            [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])],
            ("y",),
            "'y' has been used as output names",
        ),
        ([], ("x",), "holds no network"),
        ([node("MaxPool", ["x"], ["y"])], ("y",), "'kernel_shape' is missing"),
    ],
)
def test_an_invalid_graph_is_told_with_what_is_wrong(load, nodes, outputs, part):
    assert part in refusal(load, nodes, outputs=outputs, error=ModelNotReadable)


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.UNDEFINED])
def test_an_input_that_holds_no_numbers_is_told(load, tmp_path, kind):
    load([node("Identity", ["x"], ["y"])])
    model = onnx.load_model(tmp_path / "modèle à un nœud.onnx")
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.save_model(model, tmp_path / "words.onnx")
    with pytest.raises(ImportRefused, match="input 'x' is not a tensor of numbers"):
        load_network(tmp_path / "words.onnx")


def test_sparse_weights_are_refused(load):
    values = numpy_helper.from_array(np.ones(1, "float32"), "values")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1]), "places"), [3])
    nodes = [node("Constant", [], ["thin"], sparse_value=sparse), node("Mul", ["x", "thin"], ["y"])]
    assert "sparse weights cannot be imported: thin" in refusal(load, nodes, (1, 3))


# Others


def test_a_transposed_weight_keeps_its_name(load):
    nodes = [
        node("Flatten", ["x"], ["f"]),
        node("Transpose", ["classifier/fc_w_0"], ["t"], perm=[1, 0]),
        node("MatMul", ["f", "t"], ["y"]),
    ]
    weights = {"classifier/fc_w_0": GENERATOR.normal(size=(100, 12)).astype("float32")}
    assert "classifier/fc" in layers(load(nodes, (1, 3, 2, 2), weights=weights))


def test_a_weight_without_a_name_gets_its_layers(load):
    conv = node("Conv", ["x", "onnx::Conv_497", "onnx::Conv_498"], ["y"], "/layer1/conv1/Conv")
    weights = {"onnx::Conv_497": KERNEL, "onnx::Conv_498": np.ones(4, "float32")}
    assert layers(load([conv], weights=weights))[0] == "/layer1/conv1/Conv"


def test_a_size_the_layers_cannot_have_is_told(load):
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["y"], "fc")]
    weights = {"w": np.ones((48, 5), "float32")}
    message = refusal(load, nodes, (1, 3, "h", 4), weights=weights, input_shapes={"x": (1, 3, 5, 4)})
    assert "fc" in message


def test_lrn_over_an_even_number_of_channels_is_refused(load):
    assert "LRN 'norm1'" in refusal(load, [node("LRN", ["x"], ["y"], "norm1", size=4)])


def test_used_indices_of_a_max_pool_are_refused(load):
    pool = node("MaxPool", ["x"], ["y", "indices"], "pool", kernel_shape=[2, 2])
    cast = node("Cast", ["indices"], ["z"], to=TensorProto.FLOAT)
    assert "MaxPool 'pool': its second output" in refusal(load, [pool, cast], outputs=("y", "z"))
    load([pool])


def test_what_cannot_be_computed_again_is_refused_by_name(load):
    pad = node("Pad", ["x", "sizes"], ["y"], mode="reflect")
    message = refusal(load, [pad], weights={"sizes": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, error=UserError)
    assert "mirror_pad in y" in message


def test_several_refusals_are_told_at_once(load):
    nodes = [
        node("LRN", ["x"], ["l"], "norm1", size=4),
        node("MaxPool", ["l"], ["p", "y"], "pool", kernel_shape=[2, 2]),
    ]
    message = refusal(load, nodes)
    assert "norm1" in message
    assert "pool" in message


def test_dropout_is_gone(load):
    assert layers(load([node("Relu", ["x"], ["r"]), node("Dropout", ["r"], ["y", "mask"])])) == [
        "r",
        "gv",
    ]


@pytest.mark.parametrize("axes", [{"axes": [2]}, {}])
def test_a_slice_before_opset_10(load, axes):
    assert load([node("Slice", ["x"], ["y"], starts=[0], ends=[1], **axes)], opset=9)


def test_sizes_known_only_at_run_time_are_refused(load):
    nodes = [
        node("Cast", ["x"], ["s"], to=TensorProto.INT64),
        node("Resize", ["x", "", "", "s"], ["y"], "up"),
    ]
    assert "Resize 'up': its scales or sizes are computed at run time" in refusal(load, nodes, (4,))


@pytest.mark.parametrize(
    ("operator", "opset", "options"),
    [
        ("Upsample", 9, {"mode": "nearest"}),
        ("Upsample", 9, {"mode": "linear"}),
        ("Resize", 10, {"mode": "nearest"}),
        ("Resize", 13, {"mode": "linear"}),
        ("Resize", 13, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}),
    ],
)
def test_resizing(load, operator, opset, options):
    inputs = ["x", "scales"] if opset < 11 else ["x", "", "scales"]
    resize = node(operator, inputs, ["y"], **options)
    scales = {"scales": np.array([1, 1, 2, 3], "float32")}
    assert load([resize], weights=scales, opset=opset).outputs[0].shape == (1, 3, 34, 51)


def test_the_golden_values_are_those_of_onnxruntime_on_the_file(load, tmp_path):
    network = load([node("Conv", ["x", "w"], ["c"]), node("Softmax", ["c"], ["y"])], weights={"w": KERNEL})
    session = onnxruntime.InferenceSession(tmp_path / "modèle à un nœud.onnx")
    (wanted,) = session.run(None, network.golden.inputs)
    np.testing.assert_allclose(network.golden.outputs["y"], wanted, rtol=1e-5)
    np.testing.assert_allclose(evaluate(network.module, [network.golden.inputs["x"]])[0], wanted, rtol=1e-4)


# Files


@pytest.mark.parametrize(
    "content", [b"", b"This is no model.\n" * 20, b"\x08\x07", b"PK\x03\x04" + b"\0" * 50]
)
def test_a_file_that_is_no_model_is_told(tmp_path, content):
    path = tmp_path / "fausse clé.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelNotReadable, match=r"fausse clé\.onnx") as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_a_cut_file_is_told(load, tmp_path):
    load([node("Conv", ["x", "w"], ["y"])], weights={"w": KERNEL})
    whole = (tmp_path / "modèle à un nœud.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for length in (len(whole) // 4, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelNotReadable):
            load_network(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ModelNotReadable, match=r"nothing\.onnx does not exist"):
        load_network(tmp_path / "nothing.onnx")


def test_a_directory_is_told(tmp_path):
    with pytest.raises(ModelNotReadable, match="cannot be read"):
        load_network(str(tmp_path))


def test_an_invalid_graph_is_told(load):
    assert "not a valid ONNX model" in refusal(load, [node("Relu", ["no"], ["y"])], error=ModelNotReadable)


def test_a_missing_weights_file_is_told(tmp_path):
    path = tmp_path / "split.onnx"
    weight = numpy_helper.from_array(np.ones((64, 64), "float32"), "w")
    graph = helper.make_graph(
        [node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 64))],
        [weight],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    load_network(path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelNotReadable, match="cannot be read"):
        load_network(path)
