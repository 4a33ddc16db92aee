import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from relay_passes import Cost, cost, layer_table


def _torch_macs(module, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(x)
    return counter.get_total_flops() // 2


LAYERS = {
    "plain": (nn.Conv2d(6, 8, 3, padding=1), (2, 6, 9, 9)),
    "strided": (nn.Conv2d(6, 8, (3, 5), (2, 1)), (1, 6, 9, 9)),
    "grouped": (nn.Conv2d(6, 9, 3, groups=3, bias=False), (1, 6, 9, 9)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6), (1, 6, 9, 9)),
    "dilated": (nn.Conv2d(6, 8, 3, dilation=2), (1, 6, 9, 9)),
    "one dimension": (nn.Conv1d(6, 8, 3), (1, 6, 9)),
    "transposed": (nn.ConvTranspose2d(6, 8, 3, 2), (1, 6, 5, 5)),
    "dense": (nn.Linear(6, 8), (4, 6)),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_multiply_adds_and_parameters_as_torch_counts_them(from_torch, layer, shape):
    x = torch.randn(*shape)
    module = from_torch(nn.Sequential(layer, nn.ReLU()), x).module
    total = cost(module)
    assert total.macs == _torch_macs(layer, x)
    assert total.parameters == sum(p.numel() for p in layer.parameters())


def test_rows_of_a_small_network(from_torch):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    )
    table = layer_table(from_torch(net, torch.randn(1, 3, 8, 8)).module)
    assert [(row.name, row.operator, row.tensor) for row in table] == [
        ("0", "conv2d", True),
        ("0.bias", "add", False),
        ("lrn_1", "lrn", False),
        ("max_pool2d_1", "max_pool2d", False),
        ("reshape_1", "reshape", False),
        ("4", "matmul", True),
        ("4.bias", "add", False),
    ]
    assert [row.output_shape for row in table][:4] == [(1, 4, 6, 6)] * 3 + [(1, 4, 3, 3)]
    assert [row.macs for row in table] == [36 * 4 * 27, 0, 0, 0, 0, 36 * 5, 0]
    assert [row.parameters for row in table] == [108, 4, 0, 0, 0, 180, 5]
    assert [row.output_bytes for row in table] == [576, 576, 576, 144, 144, 20, 20]


def test_totals_are_sums_of_rows(from_torch):
    module = from_torch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 8, 8)).module
    table = layer_table(module)
    assert cost(module) == Cost(
        layers=3,
        macs=sum(row.macs for row in table),
        parameters=112,
        activation_bytes=sum(row.output_bytes for row in table),
    )


def test_costs_add_and_subtract():
    a, b = Cost(layers=1, macs=2, parameters=3, activation_bytes=4), Cost(layers=1, macs=1)
    assert a - b == Cost(parameters=3, macs=1, activation_bytes=4)
    assert a - b + b == a


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float64", 8), ("int8", 1), ("bool", 1)])
def test_sizes_of_types(built, dtype, size):
    from tvm import relax

    module = built((3, 5), lambda builder, x: relax.op.permute_dims(x), dtype)
    (row,) = layer_table(module)
    assert row.output_bytes == 15 * size


def test_parts_of_a_tuple_have_rows_and_the_tuple_none(from_torch):
    class Split(nn.Module):
        def forward(self, x):
            a, b = x.split([1, 2], 1)
            return torch.relu(a), torch.sigmoid(b)

    table = layer_table(from_torch(Split(), torch.randn(1, 3, 4, 4)).module)
    assert {"item", "relu", "sigmoid"} >= {row.operator for row in table}
    assert sum(row.parameters for row in table) == 0
