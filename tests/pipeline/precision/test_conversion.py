"""Converting a network: what float16 cannot hold stays float32, by name; the rest computes the same."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.precision import convert
from pipeline.precision.conversion import float16_layers
from pipeline.precision.value_range import LARGEST, SMALLEST
from pipeline.twin import evaluate

ROUNDOFF = 2.0**-11


def test_a_network_whose_numbers_fit_is_converted_whole(imported, classifier) -> None:
    network = imported(classifier, 1, 3, 8, 8)
    inputs = list(network.golden.inputs.values())
    converted = convert(network.module, [inputs])
    assert converted.kept == ()
    (wanted,) = network.golden.outputs.values()
    (found,) = evaluate(converted.module, inputs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=4 * ROUNDOFF)
    assert "float16" in converted.notice()


@pytest.mark.parametrize("factor", [2 * LARGEST, SMALLEST / 64])
def test_layers_beyond_the_range_stay_float32_and_are_named(imported, classifier, factor: float) -> None:
    with torch.no_grad():
        classifier[0].weight *= factor
        classifier[0].bias *= factor
        classifier[3].weight /= factor
    network = imported(classifier, 1, 3, 8, 8)
    inputs = list(network.golden.inputs.values())
    converted = convert(network.module, [inputs])
    layers = float16_layers(converted.module)
    names = [kept.layer for kept in converted.kept]
    assert {"0", "2", "3"} <= set(names)
    assert not layers & set(names)
    assert "7" in layers
    assert all(name in converted.notice() for name in names)
    (wanted,) = network.golden.outputs.values()
    (found,) = evaluate(converted.module, inputs)
    np.testing.assert_allclose(found, wanted, atol=4 * ROUNDOFF)


def test_numbers_that_only_some_inputs_bring_are_found(imported) -> None:
    network = imported(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), 1, 1, 2, 2)
    small, large = (np.full((samples, 1, 2, 2), size, "float32") for samples, size in ((1, 1.0), (3, 1e6)))
    assert convert(network.module, [[small]]).kept == ()
    kept = convert(network.module, [[small], [large], [small]]).kept
    assert kept
    assert "numbers up to" in str(kept[0])


def test_a_small_bias_does_no_harm(imported, classifier) -> None:
    with torch.no_grad():
        classifier[0].bias.fill_(SMALLEST / 8)
    network = imported(classifier, 1, 3, 8, 8)
    assert convert(network.module, [list(network.golden.inputs.values())]).kept == ()


def test_layers_that_stay_float32_anyway_are_not_named(imported) -> None:
    network = imported(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Softmax(3)), 1, 1, 1, 60000)
    assert network.golden.outputs["output"].max() < SMALLEST * 8
    converted = convert(network.module, [list(network.golden.inputs.values())])
    assert converted.kept == ()


def test_long_sums_are_cut(imported) -> None:
    network = imported(nn.Conv2d(256, 4, 3), 1, 256, 3, 3)
    inputs = list(network.golden.inputs.values())
    assert any(
        ".sum" in name or ".wide" in name for name in float16_layers(convert(network.module, [inputs]).module)
    )
