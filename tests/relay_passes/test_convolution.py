from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from tvm import relax

from pipeline.twin import evaluate
from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution, own_block
from relay_passes.graph import Graph, shape_of
from relay_passes.merge_plan import Reason


def test_a_convolution_as_it_is(from_torch):
    net = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 3), groups=2)
    graph = Graph(from_torch(net, torch.randn(1, 4, 9, 9)).module)
    found = Convolution.at(graph, graph.layers[0])
    assert (found.kernel, found.window) == ((3, 2), (3, 4))
    assert (found.strides, found.padding, found.dilation, found.groups) == ((2, 1), (1, 0, 1, 0), (1, 3), 2)
    np.testing.assert_array_equal(found.weight, net.weight.detach().numpy())
    assert Convolution.at(graph, graph.layers[1]) is None


def test_other_layouts_are_not_ours(built):
    kernel = relax.const(np.ones((3, 3, 2, 4), "float32"))

    def compute(builder, x):
        return relax.op.nn.conv2d(x, kernel, data_layout="NHWC", kernel_layout="HWIO")

    graph = Graph(built((1, 8, 8, 2), compute))
    assert Convolution.at(graph, graph.layers[0]) is None


def test_a_block_and_its_parts(from_torch, randomised):
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.PReLU(4)))
    graph = Graph(from_torch(net, torch.randn(1, 3, 6, 6)).module)
    block = ConvBlock.ending_at(graph, graph.layers[-1])
    assert block.vars == graph.layers
    assert block.has_bias
    assert block.bias.shape == (1, 4, 1, 1)
    assert [layer.operator for layer in block.activations] == ["nn.relu", "multiply", "add", "nn.prelu"]
    assert [layer.is_scale for layer in block.tail] == [True, False, True, True, False]


def test_a_rebuilt_block_computes_the_same(from_torch):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.PReLU(4), nn.LeakyReLU(0.3))
    case = from_torch(net, torch.randn(1, 3, 6, 6))
    graph = Graph(case.module)
    block = ConvBlock.ending_at(graph, graph.layers[-1])
    module = graph.rewrite({graph.layers[-1]: lambda emit: block.emit(emit, emit(block.convolution.source))})
    assert case.difference(module) < 1e-6
    doubled = block.with_convolution(weight=block.convolution.weight * 2)
    assert not np.shares_memory(doubled.convolution.weight, block.convolution.weight)


@pytest.mark.parametrize(
    "by",
    [np.ones((1, 1, 1, 1)), np.ones((1, 3, 1, 5)), np.ones((1, 3, 5, 5)), np.ones((2, 3, 1, 1)), np.ones(5)],
    ids=lambda by: str(by.shape),
)
def test_constants_of_other_shapes_are_no_channel_layer(built, by):
    graph = Graph(built((1, 3, 5, 5), lambda b, x: relax.op.multiply(x, relax.const(by.astype("float32")))))
    assert ChannelLayer.at(graph, graph.layers[0]) is None


@pytest.mark.parametrize("shape", [(3,), ()])
def test_tensors_without_channels_have_no_channel_layers(built, shape):
    graph = Graph(built(shape, lambda builder, x: relax.op.nn.relu(x)))
    assert ChannelLayer.at(graph, graph.layers[0]) is None


@pytest.mark.parametrize(
    ("shape", "constant"), [((2, 3), (3,)), ((2, 3, 4), (3, 1)), ((1, 3, 2, 2, 2), (1, 3, 1, 1, 1))], ids=str
)
def test_channels_are_the_second_axis_whatever_the_rank(built, shape, constant):
    by = relax.const(np.ones(constant, "float32"))
    graph = Graph(built(shape, lambda builder, x: relax.op.multiply(x, by)))
    assert ChannelLayer.at(graph, graph.layers[0]).by.shape == (1, 3, *(1,) * (len(shape) - 2))


def test_a_convolution_of_whole_numbers_is_not_ours(built):
    kernel = relax.const(np.ones((2, 1, 3, 3), "int8"))
    graph = Graph(
        built((1, 1, 5, 5), lambda _, x: relax.op.nn.conv2d(x, kernel, out_dtype="int32"), dtype="int8")
    )
    assert Convolution.at(graph, graph.layers[0]) is None


def test_a_negative_padding_crops(built):
    weight = np.random.default_rng(0).normal(size=(2, 1, 3, 3)).astype("float32")
    graph = Graph(built((1, 1, 9, 9), lambda _, x: relax.op.nn.conv2d(x, relax.const(weight))))
    (layer,) = graph.layers
    cropped = replace(Convolution.at(graph, layer), padding=(-2, 1, 0, -3))
    source = cropped.source
    module = graph.rewrite({layer: lambda emit: cropped.emit(emit, emit(source))})
    x = torch.randn(1, 1, 9, 9)
    expected = F.conv2d(F.pad(x, (1, -3, -2, 0)), torch.from_numpy(weight))
    np.testing.assert_allclose(evaluate(module, [x.numpy()])[0], expected.numpy(), atol=1e-5)
    crop = Graph(module).layers[0]
    assert (crop.name, shape_of(crop)) == (f"{layer.name}.crop", (1, 1, 7, 6))


def test_a_slope_over_another_axis_is_no_channel_layer(built):
    slope = relax.const(np.ones(3, "float32"))
    graph = Graph(built((1, 3, 3, 3), lambda builder, x: relax.op.nn.prelu(x, slope, axis=3)))
    assert ChannelLayer.at(graph, graph.layers[0]) is None


class Forked(nn.Module):
    def __init__(self, then):
        super().__init__()
        self.conv, self.then = nn.Conv2d(3, 4, 3), then

    def forward(self, x):
        return self.then(self.conv(x))


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (lambda y: F.relu(y).sigmoid().exp(), None),
        (lambda y: (F.relu(y).sigmoid().exp(), y), Reason.SEVERAL_USERS),
        (lambda y: F.relu(y).sigmoid().exp() + y, Reason.SEVERAL_USERS),
        (lambda y: (lambda s: s.exp() + s)(F.relu(y).sigmoid()), Reason.SEVERAL_USERS),
        (lambda y: F.relu(y.exp()).sigmoid().exp(), Reason.NO_CONVOLUTION),
    ],
)
def test_whose_block_it_is(from_torch, then, reason):
    graph = Graph(from_torch(Forked(then), torch.randn(1, 3, 6, 6)).module)
    end = next(var for var in graph.layers if graph.call(var, "sigmoid") is not None)
    found = own_block(graph, end)
    if reason is None:
        assert found.convolution.name == "conv"
    else:
        assert found[0] is reason


def test_weights_computed_at_run_time_are_told(built):
    def compute(builder, x):
        kernel = builder.emit(relax.op.reshape(x, (4, 3, 2, 2)))
        image = relax.const(np.ones((1, 3, 8, 8), "float32"))
        return relax.op.nn.relu(builder.emit(relax.op.nn.conv2d(image, kernel)))

    graph = Graph(built((48,), compute))
    assert own_block(graph, graph.layers[-1])[0] is Reason.DYNAMIC


def test_the_networks_input_ends_no_block(built):
    graph = Graph(built((1, 3, 5, 5), lambda builder, x: relax.op.nn.relu(x)))
    assert own_block(graph, graph.inputs[0])[0] is Reason.NO_CONVOLUTION
