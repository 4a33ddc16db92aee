import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from tvm import relax

from relay_passes import Reason
from relay_passes.graph import Graph
from relay_passes.linear_layer import LinearBlock, LinearLayer, own_linear_block

LAYERS = {
    "dense": (nn.Linear(3, 4), (2, 3)),
    "one axis": (nn.Conv1d(4, 6, 3, groups=2), (1, 4, 8)),
    "two axes": (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 5, 5)),
    "three axes": (nn.Conv3d(2, 4, 2), (1, 2, 3, 3, 3)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_a_scaled_layer_scales_its_channels(from_torch, layer, shape):
    case = from_torch(nn.Sequential(layer, nn.ReLU(), nn.Softmax(1)), torch.randn(shape))
    graph = Graph(case.module)
    block = own_linear_block(graph, graph.layers[-2])
    assert isinstance(block, LinearBlock)
    assert block.vars == graph.layers[:-1]
    channels = np.arange(1, block.bias.by.size + 1, dtype="float32")
    scaled = block.layer.scaled(channels)
    assert scaled.weight.dtype == block.layer.weight.dtype
    module = graph.rewrite({graph.layers[0]: lambda emit: scaled.emit(emit, emit(scaled.source))})
    bias = layer.bias.detach().reshape(-1, *(1,) * (len(shape) - 2))
    with torch.no_grad():
        y = layer(torch.from_numpy(case.inputs[0])) - bias
        expected = F.relu(y * torch.from_numpy(channels).reshape(bias.shape) + bias).softmax(1)
    assert type(case)(module, case.inputs, (expected.numpy(),)).difference() < 1e-5


def _layer(built, shape, compute, dtype="float32"):
    graph = Graph(built(shape, lambda builder, x: compute(x), dtype))
    return LinearLayer.at(graph, graph.layers[-1])


def test_what_is_none(built):
    ones = relax.const(np.ones((3, 3, 1, 1), "float32"))
    whole = relax.const(np.ones((3, 3, 1, 1), "int8"))
    square = relax.const(np.ones((3, 3), "float32"))
    assert _layer(built, (1, 3, 3, 3), lambda x: relax.op.nn.conv2d(x, ones)) is not None
    assert _layer(built, (1, 3, 3, 3), lambda x: relax.op.nn.conv2d(x, whole), "int8") is None
    assert _layer(built, (1, 3, 3, 3), lambda x: relax.op.nn.conv2d(x, x)) is None
    assert _layer(built, (1, 1, 3, 3), lambda x: relax.op.nn.conv2d(x, ones, data_layout="NHWC")) is None
    assert _layer(built, (3, 3), lambda x: relax.op.matmul(x, square)) is not None
    assert _layer(built, (3, 3), lambda x: relax.op.matmul(square, x)) is None
    assert _layer(built, (2, 3, 3), lambda x: relax.op.matmul(x, square)) is None
    assert _layer(built, (3,), lambda x: relax.op.matmul(x, square)) is None


def test_weights_computed_at_run_time_are_told(built):
    graph = Graph(built((3, 3), lambda builder, x: builder.emit(relax.op.matmul(x, x))))
    assert own_linear_block(graph, graph.layers[-1])[0] is Reason.DYNAMIC


def test_other_readers_are_told(built):
    def compute(builder, x):
        y = builder.emit(relax.op.matmul(x, relax.const(np.ones((3, 3), "float32"))))
        return builder.emit(relax.op.nn.relu(y)), y

    graph = Graph(built((3, 3), compute))
    assert own_linear_block(graph, graph.layers[-1])[0] is Reason.SEVERAL_USERS
