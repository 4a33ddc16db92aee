"""Layers are called what their user calls them: by node, by tensor, by weight, by module."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.importer import load_network
from pipeline.importer.onnx_names import layer_names
from pipeline.network import Network
from pipeline.twin import evaluate
from relay_passes.layer_table import layer_table

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(1, 3, 8, 8)).astype("float32")
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}

node = helper.make_node


def names(network: Network) -> list[str]:
    return [layer.name for layer in layer_table(network.module)]


def operators(network: Network) -> dict[str, str]:
    return {layer.name: layer.operator for layer in layer_table(network.module)}


def weight(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape).astype("float32")


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, np.ndarray] | None = None,
    source: str = "x",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def load(tmp_path):
    def write_and_load(*arguments, **options) -> Network:
        path = tmp_path / "modèle à moi.onnx"
        onnx.save_model(model(*arguments, **options), path)
        return load_network(path)

    return write_and_load


SPLIT_UP = [
    node("LRN", ["x"], ["l"], "norm", size=3),
    node("HardSwish", ["l"], ["h"], "swish"),
    node("Clip", ["h", "low", "high"], ["c"], "clip"),
    node("Sum", ["c", "l", "x"], ["s"], "sum"),
    node("GlobalAveragePool", ["s"], ["g"], "gap"),
    node("Flatten", ["g"], ["f"], "flat"),
    node("Softmax", ["f"], ["y"], "prob"),
]
BOUNDS = {"low": np.float32(0), "high": np.float32(4)}


def test_layers_without_weights_are_called_after_their_nodes(load):
    assert operators(load(SPLIT_UP, weights=BOUNDS)) == {
        "norm": "lrn",
        "swish.add": "add",
        "swish.clip": "clip",
        "swish.multiply": "multiply",
        "swish": "multiply",
        "clip": "clip",
        "sum.add": "add",
        "sum": "add",
        "gap": "mean",
        "flat": "reshape",
        "prob": "softmax",
    }


def test_without_node_names_they_are_called_after_their_outputs(load):
    nameless = [node(n.op_type, n.input, n.output) for n in SPLIT_UP]
    for old, new in zip(SPLIT_UP, nameless, strict=True):
        new.attribute.extend(old.attribute)
    wanted = {"l", "h.add", "h.clip", "h.multiply", "h", "c", "s.add", "s", "g", "f", "y"}
    assert set(names(load(nameless, weights=BOUNDS))) == wanted


BRANCHES = [
    node("Relu", ["x"], ["r"]),
    node("MaxPool", ["r"], ["p"], **POOL),
    node("AveragePool", ["r"], ["a"], **POOL),
    node("LRN", ["p"], ["n"], size=3),
    node("Conv", ["n", "conv.weight", "conv.bias"], ["c"]),
    node("Dropout", ["c"], ["d"]),
    node("Concat", ["d", "a", "p"], ["j"], axis=1),
    node("Split", ["j", "sizes"], ["s1", "s2"], axis=1),
    node("Identity", ["s1"], ["i"]),
    node("Sigmoid", ["i"], ["g"]),
    node("Mul", ["i", "g"], ["m"]),
    node("Concat", ["m", "s2"], ["y"], axis=1),
]
BRANCH_WEIGHTS = {"conv.weight": weight(2, 3, 1, 1), "conv.bias": weight(2), "sizes": np.array([5, 3])}


def test_a_name_stands_for_the_values_of_its_tensor(load):
    """It is lost or mixed up if TVM changes how it hands over its values."""
    network = load(BRANCHES, ("p", "y"), BRANCH_WEIGHTS)
    tensors = ["r", "p", "a", "n", "j", "s1", "s2", "m", "y"]
    assert names(network) == ["r", "p", "n", "conv", "conv.bias", "a", "j", "s1", "s2", "m", "y"]
    session = onnxruntime.InferenceSession(model(BRANCHES, tensors, BRANCH_WEIGHTS).SerializeToString())
    _, _, *values = evaluate(network.module, [X], at=tensors)
    for name, value, wanted in zip(tensors, values, session.run(tensors, {"x": X}), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5, err_msg=name)


def test_outputs_keep_their_names_and_order(load):
    network = load(BRANCHES, ("y", "p"), BRANCH_WEIGHTS)
    assert [output.name for output in network.outputs] == ["y", "p"]


def test_results_of_one_node_are_numbered(load):
    nodes = [
        node("Split", ["x"], ["a", "b"], "split it", axis=2, num_outputs=2),
        node("Concat", ["b", "a"], ["y"], "join", axis=2),
    ]
    assert names(load(nodes)) == ["split it.0", "split it.1", "join"]


def test_one_used_result_carries_the_nodes_name(load):
    nodes = [node("Split", ["x"], ["a", "y"], "split", axis=2, num_outputs=2)]
    assert names(load(nodes)) == ["split"]


def test_equal_names_are_numbered(load):
    nodes = [
        node("Relu", ["x"], ["a"], "act"),
        node("Sigmoid", ["a"], ["b"], "act"),
        node("Tanh", ["b"], ["c"], "act_2"),
        node("Relu", ["c"], ["y"], "act"),
    ]
    network = load(nodes)
    assert names(network) == ["act", "act_3", "act_2", "act_4"]
    assert list(operators(network).values()) == ["relu", "sigmoid", "tanh", "relu"]


def test_a_node_may_not_take_a_weights_name(load):
    nodes = [
        node("Relu", ["x"], ["a"], "conv"),
        node("Conv", ["a", "conv.weight"], ["y"], "first"),
    ]
    assert names(load(nodes, weights={"conv.weight": weight(2, 3, 1, 1)})) == ["conv_2", "conv"]


@pytest.mark.parametrize(
    "name",
    [
        *("with a space", "größe/平均", 'say "pool"', "it's", "a\\b", "%s{0}"),
        *("lv3", "gv", "relu_1", "lv", "x", "main"),
    ],
)
def test_any_name_is_kept(load, name):
    nodes = [node("Relu", ["x"], ["a"], name), node("MaxPool", ["a"], ["y"], f"{name}!", **POOL)]
    assert names(load(nodes)) == [name, f"{name}!"]


def test_a_blank_name_is_none(load):
    assert names(load([node("Relu", ["x"], ["y"], "  ")])) == ["y"]


def test_a_weight_that_names_no_layer_leaves_it_its_nodes_name(load):
    nodes = [node("Conv", ["x", "497", "498"], ["a"], "stem/Conv"), node("Relu", ["a"], ["y"], "stem/Relu")]
    network = load(nodes, weights={"497": weight(2, 3, 3, 3), "498": weight(2)})
    assert names(network) == ["stem/Conv", "stem/Conv.bias", "stem/Relu"]


def test_weights_as_nodes(load):
    nodes = [
        node("Constant", [], ["/c/w"], "weights of c", value=numpy_helper.from_array(weight(8, 3, 3, 3))),
        node("Conv", ["x", "/c/w"], ["a"], "c 1"),
        node("Relu", ["a"], ["y"], "r"),
    ]
    assert names(load(nodes)) == ["/c", "r"]


@pytest.mark.parametrize("channels", [4, 100])
def test_a_weight_that_is_reshaped_first(load, channels):
    """As Caffe's Scale arrives: its names have to last, however few channels there are."""
    nodes = [
        node("Conv", ["x", "conv_w"], ["a"], "n0"),
        node("Unsqueeze", ["sc_w", "axes"], ["w"], "n1"),
        node("Mul", ["a", "w"], ["m"], "n2"),
        node("Unsqueeze", ["sc_b", "axes"], ["b"], "n3"),
        node("Add", ["m", "b"], ["y"], "n4"),
    ]
    arrays = {"sc_w": weight(channels), "sc_b": weight(channels), "axes": np.array([1, 2])}
    network = load(nodes, weights={"conv_w": weight(channels, 3, 3, 3), **arrays})
    assert names(network) == ["conv", "sc", "sc.bias"]


def test_a_gemm_with_factors_is_called_after_its_weight(load):
    nodes = [
        node("Flatten", ["x"], ["f"], "flat"),
        node("Gemm", ["f", "fc_w", "fc_b"], ["y"], "dense", alpha=0.5, beta=2.0),
    ]
    network = load(nodes, weights={"fc_w": weight(192, 4), "fc_b": weight(4)})
    assert names(network) == ["flat", "fc.multiply", "fc", "fc.bias"]


CAFFE2 = [
    node("Conv", ["data_0", "conv1/7x7_s2_w_0", "conv1/7x7_s2_b_0"], ["conv1/7x7_s2_1"]),
    node("Relu", ["conv1/7x7_s2_1"], ["conv1/7x7_s2_2"]),
    node("MaxPool", ["conv1/7x7_s2_2"], ["pool1/3x3_s2_1"], **POOL),
    node("LRN", ["pool1/3x3_s2_1"], ["pool1/norm1_1"], size=5),
    node("Conv", ["pool1/norm1_1", "inception_3a/1x1_w_0"], ["inception_3a/1x1_1"]),
    node("MaxPool", ["pool1/norm1_1"], ["inception_3a/pool_1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    node("Concat", ["inception_3a/1x1_1", "inception_3a/pool_1"], ["inception_3a/output_1"], axis=1),
    node("Dropout", ["inception_3a/output_1"], ["inception_3a/output_2", "_mask_1"]),
    node("Softmax", ["inception_3a/output_2"], ["prob_1"]),
]


def test_the_versions_that_caffe2_puts_behind_names_are_taken_off(load):
    """As in the GoogLeNet of ONNX's model zoo."""
    weights = {
        "conv1/7x7_s2_w_0": weight(6, 3, 3, 3),
        "conv1/7x7_s2_b_0": weight(6),
        "inception_3a/1x1_w_0": weight(2, 6, 1, 1),
    }
    network = load(CAFFE2, ("prob_1",), weights, "data_0")
    assert names(network) == [
        "conv1/7x7_s2",
        "conv1/7x7_s2.bias",
        "conv1/7x7_s2_2",
        "pool1/3x3_s2",
        "pool1/norm1",
        "inception_3a/1x1",
        "inception_3a/pool",
        "inception_3a/output_1",
        "prob",
    ]
    assert [output.name for output in network.outputs] == ["prob_1"]


def test_a_number_is_no_version_unless_all_values_have_one():
    graph = model([node("Relu", ["x"], ["relu_7"]), node("Relu", ["relu_7"], ["y_1"])], ("y_1",)).graph
    assert layer_names(graph) == {"relu_7": "relu_7", "y_1": "y_1"}


def test_names_of_the_onnx_packages_googlenet():
    """Its file says `n2` for pool1/3x3_s2, and holds Caffe's names for the weights alone."""
    network = load_network(LIGHT / "light_inception_v1.onnx")
    assert names(network)[:5] == ["conv1/7x7_s2", "conv1/7x7_s2.bias", "n1", "n2", "n3"]
    assert [operators(network)[name] for name in ("n1", "n2", "n3")] == ["relu", "max_pool2d", "lrn"]
    own = {node.name for node in onnx.load_model(LIGHT / "light_inception_v1.onnx").graph.node}
    without_weights = [layer.name for layer in layer_table(network.module) if not layer.parameters]
    assert set(without_weights) <= own


class Block(nn.Module):
    """A residual block that uses one ReLU twice and calls functions itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.pools = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.LocalResponseNorm(3))
        self.act = nn.PReLU(3)

    def forward(self, x):
        y = self.relu(self.bn(self.conv(x)))
        y = self.relu(self.pools(y))
        return self.act(F.sigmoid(y + x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("pool 1", nn.MaxPool2d(2, ceil_mode=True))
        self.features.add_module("block", Block())
        self.dropout = nn.Dropout()
        self.gap, self.flat, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)
        self.swish, self.prob = nn.Hardswish(), nn.Softmax(1)

    def forward(self, x):
        x = F.local_response_norm(F.avg_pool2d(F.relu(x), 2), 3)
        x = F.avg_pool2d(self.dropout(self.features(x)), 2)
        a, b = x.split(1, 2)
        return self.prob(self.swish(self.fc(self.flat(self.gap(torch.cat([b, a], 2))))))


TORCH_NAMES = [
    "relu",
    "avg_pool2d",
    "local_response_norm",
    "features.pool 1",
    "features.block.conv",
    "features.block.bn",
    "features.block.bn.shift",
    "features.block.relu",
    "features.block.pools.0",
    "features.block.pools.1",
    "features.block.relu_2",
    "features.block.add",
    "features.block.sigmoid",
    "features.block.act",
    "avg_pool2d_1",
    "split.0",
    "split.1",
    "cat",
    "gap",
    "flat",
    "fc",
    "fc.bias",
    "swish.add",
    "swish.clip",
    "swish.multiply",
    "swish",
    "prob",
]


WITH_WEIGHTS = ("features.block.conv", "features.block.bn", "fc")


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def test_torch_layers_are_called_after_their_modules(net):
    assert names(load_network(net, example_inputs=torch.randn(1, 3, 18, 18))) == TORCH_NAMES


def test_an_archive_gives_the_same_names(net, tmp_path):
    path = tmp_path / "réseau à moi.pt2"
    torch.export.save(torch.export.export(net, (torch.randn(1, 3, 18, 18),)), path)
    assert names(load_network(path)) == TORCH_NAMES


def test_an_archive_with_an_open_size_gives_the_same_names(net, tmp_path):
    path = tmp_path / "open.pt2"
    batch = torch.export.Dim("batch", max=8)
    x = torch.randn(2, 3, 18, 18)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)), path)
    assert names(load_network(path, input_shapes={"x": (1, 3, 18, 18)})) == TORCH_NAMES


def test_a_modules_name_stands_for_its_values(net):
    """It is lost or mixed up if TVM changes how it hands over its values."""
    x = torch.randn(1, 3, 18, 18)
    network = load_network(net, example_inputs=x)
    parts = [name for name, _ in net.named_modules() if name in TORCH_NAMES and name not in WITH_WEIGHTS]
    wanted: dict[str, np.ndarray] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        wanted.setdefault(name, value.numpy().copy())

    for name in parts:
        part = net.get_submodule(name)
        part.register_forward_hook(lambda _module, _inputs, value, name=name: keep(name, value))
    with torch.no_grad():
        net(x)
    assert len(wanted) == 9
    _, *values = evaluate(network.module, [x.numpy()], at=list(wanted))
    for name, value in zip(wanted, values, strict=True):
        np.testing.assert_allclose(value, wanted[name], atol=1e-5, err_msg=name)


def test_functions_of_a_module_without_parts(net):
    class Pooled(nn.Module):
        def forward(self, x):
            return F.relu(F.max_pool2d(F.relu(x), 2))

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.pooled = Pooled()

        def forward(self, x):
            return torch.cat([self.pooled(x), self.pooled(x + 1)], 1)

    network = load_network(Two().eval(), example_inputs=torch.from_numpy(X))
    assert set(names(network)) == {
        *("pooled.relu", "pooled.max_pool2d", "pooled"),
        *("pooled.relu_2", "pooled.max_pool2d_2", "pooled_2"),
        *("add", "cat"),
    }


def test_weights_that_are_no_parameters_leave_a_convolution_its_modules_name():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kernel", torch.randn(4, 3, 3, 3))
            self.register_buffer("shift", torch.randn(4))

        def forward(self, x):
            return F.conv2d(x, self.kernel, self.shift)

    network = load_network(nn.Sequential(Fixed(), nn.ReLU()).eval(), example_inputs=torch.from_numpy(X))
    assert names(network) == ["0", "0.bias", "1"]
