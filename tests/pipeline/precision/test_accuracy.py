"""Accuracy before and after: on labelled data by its metric, otherwise how often the networks agree."""

import numpy as np
import pytest
import torch

from pipeline.data import open_data
from pipeline.precision import convert, measure_accuracy, measure_agreement
from pipeline.twin import evaluate


@pytest.fixture
def data(imported, classifier, tmp_path):
    """A network, and images labelled with what it says, one in four of them wrongly."""
    network = imported(classifier, 1, 3, 8, 8)
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype("float32")
    labels = evaluate(network.module, [images])[0].argmax(1)
    labels[::4] = (labels[::4] + 1) % 5
    for name, part in (("train", slice(0, 20)), ("val", slice(20, 40))):
        np.savez(tmp_path / f"{name}.npz", x=images[part], y=labels[part])
    return network, open_data(tmp_path / "train.npz", tmp_path / "val.npz", network).validation, images


def test_the_metric_is_measured_before_and_after(data) -> None:
    network, validation, images = data
    converted = convert(network.module, [[images[:1]]])
    measured = measure_accuracy(network.module, converted.module, validation, "top-1")
    assert (measured.metric, measured.samples, measured.before) == ("top-1", 20, 75.0)
    assert 70 <= measured.after <= 80
    assert "before" in str(measured)


def test_a_broken_network_loses_accuracy(data, imported, classifier) -> None:
    network, validation, _ = data
    with torch.no_grad():
        classifier[7].weight.neg_()
    broken = imported(classifier, 1, 3, 8, 8)
    measured = measure_accuracy(network.module, broken.module, validation, "top-1")
    assert measured.after < measured.before


def test_without_labels_the_networks_are_compared(data, imported, classifier) -> None:
    network, validation, images = data
    batches = [[images[:16]], [images[16:]]]
    same = measure_agreement(network.module, convert(network.module, batches).module, batches)
    assert (same.samples, same.before) == (40, 100.0)
    assert same.after >= 95
    assert measure_accuracy(network.module, network.module, validation, "agreement").after == 100
    with torch.no_grad():
        classifier[7].weight.neg_()
    other = imported(classifier, 1, 3, 8, 8)
    assert measure_agreement(network.module, other.module, batches).after < 100
