"""A network in another form as a deployment takes it, with and without validation data."""

import numpy as np
import pytest
import torch

from pipeline.bundle.int8 import factors
from pipeline.errors import UserError
from pipeline.precision import DTYPES, INT8, Form, convert_network, open_validation
from pipeline.twin import evaluate
from pipeline.verification import tolerance_for
from relay_passes.graph import Graph, array_of
from relay_passes.round_weights import CHANNEL_AXIS


def write_data(path, samples: int, size: int = 8) -> None:
    generator = np.random.default_rng(0)
    images = generator.standard_normal((samples, 3, size, size)).astype("float32")
    np.savez(path, x=images, y=generator.integers(0, 5, samples))


def test_without_data_random_inputs_are_compared(imported, classifier) -> None:
    network = imported(classifier, 1, 3, 8, 8)
    made = convert_network(network.module, network)
    assert made.data is None
    assert (made.measured.metric, made.measured.samples) == ("agreement", 32)
    assert made.measured.after >= 90
    golden = list(network.golden.inputs.values())
    (wanted,) = evaluate(made.converted.module, golden)
    np.testing.assert_array_equal(made.reference["output"], wanted)
    assert made.tolerances.keys() == network.golden.outputs.keys()


@pytest.mark.parametrize("dtype", DTYPES)
def test_int8_weights_are_products_in_either_type(imported, classifier, dtype: str) -> None:
    network = imported(classifier, 1, 3, 8, 8)
    made = convert_network(network.module, network, form=Form(dtype, INT8))
    assert made.measured.after >= 90
    assert "int8" in made.converted.notice()
    assert ("float16" in made.converted.notice()) == (dtype == "float16")
    graph = Graph(made.converted.module)
    calls = [call for var in graph.layers if (call := graph.call(var, *CHANNEL_AXIS)) is not None]
    weights = [array_of(call.args[1]) for call in calls]
    assert len(weights) == 3
    assert all(weight.dtype == dtype and factors(weight) is not None for weight in weights)
    (wanted,), (found,) = network.golden.outputs.values(), made.reference.values()
    assert 0 < np.abs(found - wanted).max() < 0.01
    (tolerance,) = made.tolerances.values()
    assert (tolerance == tolerance_for(found)) == (dtype == "float32")


def test_with_data_the_metric_is_measured(imported, classifier, tmp_path) -> None:
    network = imported(classifier, 1, 3, 8, 8)
    write_data(tmp_path / "val.npz", 30)
    validation = open_validation(tmp_path / "val.npz", network, metric="top-5")
    made = convert_network(network.module, network, validation)
    assert "val.npz" in made.data
    assert (made.measured.metric, made.measured.samples) == ("top-5", 30)
    assert made.measured.before == made.measured.after == 100


def test_layers_that_only_the_data_overflows_are_kept(imported, classifier, tmp_path) -> None:
    with torch.no_grad():
        classifier[0].bias[0] = 100
    network = imported(classifier, 1, 3, 8, 8)
    path = tmp_path / "val.npz"
    write_data(path, 6)
    with np.load(path) as arrays:
        np.savez(path, x=arrays["x"] * 1e5, y=arrays["y"])
    assert convert_network(network.module, network).converted.kept == ()
    kept = convert_network(network.module, network, open_validation(path, network)).converted.kept
    assert "0" in {each.layer for each in kept}


def test_a_metric_that_is_not_there_and_labels_without_an_output_are_told(
    imported, classifier, tmp_path
) -> None:
    network, path = imported(classifier, 1, 3, 8, 8), tmp_path / "val.npz"
    write_data(path, 2)
    with pytest.raises(UserError, match="no metric top-7"):
        open_validation(path, network, metric="top-7")
    with np.load(path) as arrays:
        np.savez(path, x=arrays["x"], y=np.array([0, 5]))
    with pytest.raises(UserError, match="holds the label 5"):
        open_validation(path, network)


def test_data_that_is_not_there_is_told(imported, classifier, tmp_path) -> None:
    with pytest.raises(UserError, match="there is no"):
        open_validation(tmp_path / "nothing", imported(classifier, 1, 3, 8, 8))
