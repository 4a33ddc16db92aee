import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax

from relay_passes import inline_composites


def _net(from_torch):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.LocalResponseNorm(3, 0.5), nn.LocalResponseNorm(5, 0.2, 0.5), nn.ReLU()
    )
    return from_torch(net, torch.randn(1, 3, 8, 8) * 3)


def test_bodies_take_the_place_of_calls(from_torch, operators, names):
    case = _net(from_torch)
    module = inline_composites(case.module)
    assert "lrn" not in operators(module)
    assert len(module.functions) == 1
    assert len(set(names(module))) == len(names(module))
    assert case.difference(module) < 1e-5
    relax.analysis.well_formed(module)


def test_the_layer_keeps_its_name(from_torch, names):
    found = names(inline_composites(_net(from_torch).module))
    assert {"lrn_1", "lrn_2"} < set(found)


def test_tvm_compiles_and_runs_it(from_torch):
    case = _net(from_torch)
    built = tvm.compile(inline_composites(case.module), tvm.target.Target("llvm"))
    machine = relax.VirtualMachine(built, tvm.cpu())
    (value,) = _tensors(machine["main"](*(tvm.runtime.tensor(x) for x in case.inputs)))
    np.testing.assert_allclose(value.numpy(), case.expected[0], rtol=1e-4, atol=1e-5)


def _tensors(value):
    return [value] if isinstance(value, tvm.runtime.Tensor) else list(value)


def test_a_network_without_composites_stays(from_torch):
    module = from_torch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(1, 3, 8, 8)).module
    tvm.ir.assert_structural_equal(inline_composites(module), module, map_free_vars=True)
