import numpy as np
import pytest
import torch
from onnx.helper import make_node
from torch import nn

from relay_passes import inline_composites
from relay_passes.canonicalize.respell_lrn import COMPOSITE, lrn_function
from relay_passes.graph import Graph

PARAMETERS = {"size": 5, "alpha": 2e-2, "beta": 0.75, "bias": 1.5}


def _composites(module):
    graph = Graph(module)
    return [f.attrs for var in graph.layers if (f := graph.composite(var)) is not None]


def _onnx_lrn(from_onnx, x, **parameters):
    return from_onnx([make_node("LRN", ["x"], ["y"], **parameters)], {"x": x}, {})


def test_onnx_lrn_is_one_layer_with_its_parameters(from_onnx, operators):
    x = np.random.default_rng(0).normal(size=(2, 8, 5, 6)).astype("float32") * 4
    case = _onnx_lrn(from_onnx, x, **PARAMETERS)
    (attributes,) = _composites(case.module)
    assert operators(case.module) == ["lrn"]
    assert attributes["Composite"] == COMPOSITE
    assert int(attributes["size"]) == 5
    assert {k: float(attributes[k]) for k in ("alpha", "beta", "bias")} == pytest.approx(
        {k: PARAMETERS[k] for k in ("alpha", "beta", "bias")}
    )
    assert case.difference() < 1e-5


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_torch_lrn_is_the_same_layer(from_torch, operators, beta):
    case = from_torch(nn.LocalResponseNorm(3, 0.1, beta, 2.0), torch.randn(1, 6, 4, 4) * 3)
    (attributes,) = _composites(case.module)
    assert operators(case.module) == ["lrn"]
    assert [float(attributes[k]) for k in ("size", "alpha", "beta", "bias")] == pytest.approx(
        [3, 0.1, beta, 2.0]
    )
    assert case.difference() < 1e-5


def test_lrns_of_several_shapes_and_parameters_stay_apart(from_torch):
    net = nn.Sequential(
        nn.LocalResponseNorm(3, 0.1),
        nn.LocalResponseNorm(3, 0.1),
        nn.LocalResponseNorm(5, 0.2),
        nn.MaxPool2d(2),
        nn.LocalResponseNorm(3, 0.1),
    )
    case = from_torch(net, torch.randn(1, 6, 4, 4) * 3)
    assert [int(a["size"]) for a in _composites(case.module)] == [3, 3, 5, 3]
    assert [v.name for v in Graph(case.module).layers] == ["lrn_1", "lrn_2", "lrn_3", "max_pool2d_1", "lrn_4"]
    assert case.difference() < 1e-5
    assert case.difference(inline_composites(case.module)) < 1e-5


def test_a_mean_with_other_padding_is_no_lrn(from_torch):
    class Lopsided(nn.Module):
        def forward(self, x):
            square = nn.functional.pad((x * x).unsqueeze(1), (0, 0, 0, 0, 2, 0))
            mean = nn.functional.avg_pool3d(square, (3, 1, 1), stride=1).squeeze(1)
            return x / (mean * 0.5 + 1.0) ** 0.75

    case = from_torch(Lopsided(), torch.randn(1, 6, 4, 4))
    assert _composites(case.module) == []
    assert case.difference() < 1e-5


def test_channels_of_a_double_network_keep_their_type(built):
    import tvm

    function = lrn_function(
        tvm.relax.TensorType((1, 4, 2, 2), "float64"), size=3, alpha=0.1, beta=0.75, bias=1.0
    )
    assert str(function.ret_ty.dtype) == "float64"


def test_an_lrn_of_rows_is_left_as_it_came(from_torch):
    case = from_torch(nn.LocalResponseNorm(3, 0.1), torch.randn(1, 6, 4))
    assert _composites(case.module) == []
    assert case.difference() < 1e-5


def test_a_padding_with_another_number_is_no_lrn(from_torch):
    class Padded(nn.Module):
        def forward(self, x):
            square = nn.functional.pad((x * x).unsqueeze(1), (0, 0, 0, 0, 1, 1), value=1.0)
            mean = nn.functional.avg_pool3d(square, (3, 1, 1), stride=1).squeeze(1)
            return x / (mean * 0.5 + 1.0) ** 0.75

    case = from_torch(Padded(), torch.randn(1, 6, 4, 4))
    assert _composites(case.module) == []
    assert case.difference() < 1e-5
