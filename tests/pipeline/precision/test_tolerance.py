"""How far float16 code may be from torch: enough for rounding, too little for a missing part."""

import numpy as np
import pytest
import torch
import tvm
from torch import nn
from tvm import relax

import targets
import tuning
from pipeline.precision import convert, tolerances
from pipeline.precision.tolerance import UNIT_ROUNDOFF, relative_tolerance
from pipeline.twin import evaluate
from relay_passes import inline_composites


def compiled(module: tvm.IRModule, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What code for this machine computes: LLVM rounds each operation to float16, if in software."""
    made = tuning.compile_module(inline_composites(module), targets.find("host"), None)
    main = relax.VirtualMachine(made.executable, tvm.cpu())["main"]
    weights = [tvm.runtime.tensor(made.params[name]) for name in sorted(made.params)]
    outputs = main(*map(tvm.runtime.tensor, inputs), *weights)
    return [each.numpy() for each in ([outputs] if isinstance(outputs, tvm.runtime.Tensor) else outputs)]


def test_the_terms_of_the_longest_way_count(imported) -> None:
    layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    network = imported(layers, 1, 4, 5, 5)
    module = convert(network.module, [list(network.golden.inputs.values())]).module
    casts, sums, others = 1, 4 * 9 + 8, 2 + 1
    assert relative_tolerance(module) == pytest.approx(UNIT_ROUNDOFF * (casts + sums + others) ** 0.5)


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid(), nn.Identity()])
def test_code_that_rounds_in_float16_is_within_it_and_one_missing_channel_is_not(imported, last) -> None:
    torch.manual_seed(1)
    layers = nn.Sequential(
        nn.Conv2d(64, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 3), nn.Flatten(), nn.Linear(8, 4), last
    )
    network = imported(layers, 1, 64, 5, 5)
    inputs = list(network.golden.inputs.values())
    module = convert(network.module, [inputs]).module
    reference = dict(zip(network.golden.outputs, evaluate(module, inputs), strict=True))
    (allowed,) = tolerances(module, inputs, reference).values()
    (wanted,), (found,) = reference.values(), compiled(module, inputs)
    assert np.abs(found - wanted).max() <= allowed / 2

    with torch.no_grad():
        layers[2].weight[:, ::2] = 0
    broken = imported(layers, 1, 64, 5, 5)
    (other,) = evaluate(convert(broken.module, [inputs]).module, inputs)
    assert np.abs(other - wanted).max() > allowed


def test_what_stays_float32_is_held_to_float32(imported) -> None:
    network = imported(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1, 2, 4, 4)
    inputs = list(network.golden.inputs.values())
    reference = network.golden.outputs
    (allowed,) = tolerances(network.module, inputs, reference).values()
    assert allowed == pytest.approx(1e-4 * np.abs(reference["output"]).max(), rel=1e-6)
