import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn
from tvm import relax

from pipeline.twin import evaluate
from relay_passes import canonicalize
from relay_passes.canonicalize.name_layers import layer_name
from relay_passes.graph import Graph

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 3, 8, 8)).astype("float32")


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("conv1.weight", "conv1"),
        ("layer1.0.conv2.weight", "layer1.0.conv2"),
        ("conv1/7x7_s2_w_0", "conv1/7x7_s2"),
        ("gpu_0/res2_0_branch2a_bn_s_0", "gpu_0/res2_0_branch2a_bn"),
        ("block/conv/kernel:0", "block/conv"),
        ("fc_W", "fc"),
        ("weight", "weight"),
        ("features", "features"),
        ("view", "view"),
        ("upscale", "upscale"),
        ("onnx::Conv_497", "onnx::Conv_497"),
        ("größe 1/w", "größe 1"),
    ],
)
def test_a_layer_is_called_after_its_weight(weight, layer):
    assert layer_name(weight) == layer


def test_torch_layers_carry_their_modules_names(from_torch, names):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.PReLU(4))
            self.head = nn.Linear(4, 2)
            self.last = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            return self.last(self.head(nn.functional.max_pool2d(self.stem(x), 3, 2).mean((2, 3))))

    case = from_torch(Net(), torch.from_numpy(X))
    assert names(case.module) == [
        "stem.0",
        "stem.1",
        "stem.1.shift",
        "stem.2",
        "max_pool2d_1",
        "mean_1",
        "head",
        "head.bias",
        "last",
    ]
    assert case.difference() < 1e-5


def _convolutions(from_onnx, *weights):
    """A row of 1x1 convolutions with weights of these names."""
    nodes = [
        make_node("Conv", [f"v{i}" if i else "x", weight], [f"v{i + 1}"]) for i, weight in enumerate(weights)
    ]
    nodes.append(make_node("Relu", [f"v{len(weights)}"], ["y"]))
    values = {weight: RNG.normal(size=(3, 3, 1, 1)).astype("float32") for weight in weights}
    return from_onnx(nodes, {"x": X}, values)


def test_names_that_become_equal_are_numbered(from_onnx, names):
    case = _convolutions(from_onnx, "conv.weight", "conv_w", "conv/kernel")
    assert names(case.module) == ["conv", "conv_2", "conv_3", "relu_1"]
    assert case.difference() < 1e-5


def test_a_numbered_name_does_not_take_a_users(from_onnx, names):
    case = _convolutions(from_onnx, "conv.weight", "conv_w", "conv_2.weight", "relu_1.weight")
    assert len(set(names(case.module))) == 5
    assert {"conv", "conv_2", "relu_1"} < set(names(case.module))
    assert case.difference() < 1e-5


def test_one_weight_for_two_layers(from_onnx, names):
    case = _convolutions(from_onnx, "shared.weight", "shared.weight")
    assert names(case.module) == ["shared", "shared_2", "relu_1"]
    assert case.difference() < 1e-5


def test_a_weight_that_stands_in_the_graph_names_nothing(from_onnx, names):
    from onnx import numpy_helper

    value = numpy_helper.from_array(RNG.normal(size=(2, 3, 1, 1)).astype("float32"))
    bias = numpy_helper.from_array(np.ones(2, "float32"))
    nodes = [
        make_node("Constant", [], ["w"], value=value),
        make_node("Constant", [], ["b"], value=bias),
        make_node("Conv", ["x", "w", "b"], ["y"]),
    ]
    case = from_onnx(nodes, {"x": X}, {})
    assert names(case.module) == ["conv2d_1", "conv2d_1.bias"]
    assert case.difference() < 1e-5


def test_biases_are_called_after_their_layer(from_onnx, names):
    weights = {
        "c.weight": RNG.normal(size=(2, 3, 1, 1)).astype("float32"),
        "c.bias": RNG.normal(size=2).astype("float32"),
    }
    case = from_onnx([make_node("Conv", ["x", *weights], ["y"])], {"x": X}, weights)
    assert names(case.module) == ["c", "c.bias"]


def _named(module, **layers):
    """Canonical form with the user's layers of some values, which are found by their names in `module`."""
    module["main"] = module["main"].with_attr("num_input", 1)
    found = {var.name: var for var in Graph(module).value}
    return canonicalize(module, {}, {found[name]: layer for name, layer in layers.items()})


@pytest.fixture
def chain(built):
    """A function that makes a row of layers, called lv0, lv1 and so on, from functions of the one before."""

    def made(*functions):
        def compute(builder, x):
            for index, function in enumerate(functions):
                x = builder.emit(function(x), f"lv{index}")
            return x

        return built((1, 4, 8, 8), compute)

    return made


def test_the_result_carries_the_layers_name_and_steps_what_they_do(chain, names):
    module = chain(
        lambda x: relax.op.add(x, relax.const(3.0)),
        lambda x: relax.op.nn.relu(x),
        lambda x: relax.op.sigmoid(x),
        lambda x: relax.op.tanh(x),
    )
    assert names(_named(module, lv0="a", lv1="a", lv3="b")) == ["a.add", "a", "b.sigmoid", "b"]


def test_equal_steps_are_numbered(chain, names):
    module = chain(relax.op.nn.relu, relax.op.tanh, relax.op.tanh, relax.op.tanh)
    assert names(_named(module, lv3="a")) == ["a.relu", "a.tanh", "a.tanh_2", "a"]


def test_the_last_step_that_remains_takes_the_layers_name(chain, names):
    module = chain(
        relax.op.tanh,
        lambda x: relax.op.reshape(x, (4, 64)),
        relax.op.sigmoid,
        lambda x: relax.op.reshape(x, (4, 64)),
        lambda x: relax.op.nn.pad(x, [0] * 4),
    )
    assert names(_named(module, lv0="first", lv4="soft")) == ["first", "soft.reshape", "soft"]


def test_a_dropped_layer_leaves_the_name_of_what_it_read(chain, names):
    module = chain(relax.op.tanh, lambda x: relax.op.nn.pad(x, [0] * 8), relax.op.sigmoid)
    assert names(_named(module, lv0="a", lv1="dropout", lv2="b")) == ["a", "b"]


def test_an_importers_name_may_be_a_users(chain, names):
    module = chain(relax.op.tanh, relax.op.nn.relu, relax.op.sigmoid)
    assert names(_named(module, lv0="lv1", lv1="gv")) == ["lv1", "gv", "sigmoid_1"]


def test_a_users_name_may_look_like_a_step(chain, names):
    module = chain(relax.op.nn.relu, relax.op.tanh, relax.op.nn.relu, relax.op.sigmoid)
    assert names(_named(module, lv1="a.relu", lv3="a")) == ["a.relu.relu", "a.relu", "a.relu_2", "a"]


def test_what_no_layer_stands_for_is_numbered(chain, names):
    module = chain(relax.op.nn.relu, relax.op.tanh, relax.op.nn.relu)
    assert names(_named(module)) == ["relu_1", "tanh_1", "relu_2"]


def test_a_layer_whose_weights_are_constants_has_a_bias(chain, names):
    kernel, shift = (relax.const(RNG.normal(size=s).astype("float32")) for s in ((2, 4, 1, 1), (1, 2, 1, 1)))
    module = chain(lambda x: relax.op.nn.conv2d(x, kernel), lambda x: relax.op.add(x, shift))
    assert names(_named(module, lv1="a")) == ["a", "a.bias"]


def test_a_number_that_is_added_is_no_bias(chain, names):
    half = relax.const(0.5)
    module = chain(lambda x: relax.op.multiply(x, half), lambda x: relax.op.add(x, half))
    assert names(_named(module, lv0="scaled", lv1="shifted")) == ["scaled", "shifted"]


def test_a_batch_norm_of_constants_carries_its_layers_name(chain, names):
    numbers = [relax.const(np.full(4, value, "float32")) for value in (2.0, 1.0, 0.5, 4.0)]
    module = chain(
        lambda x: relax.op.nn.batch_norm(x, *numbers, axis=1, training=False),
        lambda y: relax.TupleGetItem(y, 0),
    )
    assert names(_named(module, lv1="bn")) == ["bn", "bn.shift"]


def test_several_results_of_one_layer_are_numbered(built, names):
    def compute(builder, x):
        parts = builder.emit(relax.op.split(x, 2, axis=1), "parts")
        first = builder.emit(relax.TupleGetItem(parts, 0), "first")
        second = builder.emit(relax.TupleGetItem(parts, 1), "second")
        return builder.emit(relax.op.add(second, first), "total")

    module = built((1, 4, 8, 8), compute)
    found = names(_named(module, first="split", second="split", total="sum"))
    assert found == ["split", "split.0", "split.1", "sum"]


def test_results_that_are_layers_of_their_own_keep_their_names(built, names):
    def compute(builder, x):
        parts = builder.emit(relax.op.split(x, 2, axis=1), "parts")
        first = builder.emit(relax.TupleGetItem(parts, 0), "first")
        second = builder.emit(relax.TupleGetItem(parts, 1), "second")
        return builder.emit(relax.op.add(second, first), "total")

    module = built((1, 4, 8, 8), compute)
    found = names(_named(module, first="s1", second="s2", total="sum"))
    assert found[1:] == ["s1", "s2", "sum"]


def test_a_constant_added_to_one_of_a_layers_values_is_a_layer(built, names):
    scale, shift = (relax.const(RNG.normal(size=(1, 4, 1, 1)).astype("float32")) for _ in range(2))

    def compute(builder, x):
        scaled = builder.emit(relax.op.multiply(x, scale), "scaled")
        last = builder.emit(relax.op.tanh(scaled), "last")
        shifted = builder.emit(relax.op.add(scaled, shift), "shifted")
        return builder.emit(relax.op.add(last, shifted), "total")

    module = built((1, 4, 8, 8), compute)
    found = names(_named(module, scaled="pair", last="pair", shifted="moved", total="sum"))
    assert found == ["pair.multiply", "pair", "moved", "sum"]


@pytest.mark.parametrize("seed", range(20))
def test_names_are_different_however_layers_are_spread(built, names, seed):
    """Values are given to layers at random, and some of them to none."""
    random = np.random.default_rng(seed)
    kernel = relax.const(RNG.normal(size=(4, 4, 1, 1)).astype("float32"))
    scale = relax.const(RNG.normal(size=(1, 4, 1, 1)).astype("float32"))
    unary = (
        relax.op.nn.relu,
        lambda x: relax.op.multiply(x, scale),
        lambda x: relax.op.add(x, scale),
        lambda x: relax.op.nn.conv2d(x, kernel),
        lambda x: relax.op.nn.pad(x, [0] * 8),
        lambda x: relax.op.reshape(x, (1, 4, 8, 8)),
    )

    def compute(builder, x):
        values = [x]
        for _ in range(20):
            read = values[random.integers(len(values))]
            if random.random() < 0.2:
                parts = builder.emit(relax.op.split(read, 2, axis=1))
                pair = [builder.emit(relax.TupleGetItem(parts, i)) for i in random.permutation(2).tolist()]
                values.append(builder.emit(relax.op.concat(pair, axis=1)))
            else:
                values.append(builder.emit(unary[random.integers(len(unary))](read)))
        return tuple(values[-4:])

    module = built((1, 4, 8, 8), compute)
    module["main"] = module["main"].with_attr("num_input", 1)
    layers = {
        var: str(random.choice(["a", "b", "a.relu", "lv2", "c.bias", "relu_1"]))
        for var in Graph(module).layers
        if random.random() < 0.7
    }
    named = canonicalize(module, {}, layers)
    assert len(set(names(named))) == len(names(named))
    x = RNG.normal(size=(1, 4, 8, 8)).astype("float32")
    for value, wanted in zip(evaluate(named, [x]), evaluate(module, [x]), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-4)
