import random
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from pipeline.data import Loader, open_data
from pipeline.errors import UserError


class Listed(Dataset):
    """Samples from a function of their number."""

    def __init__(self, sample, length=8):
        self.sample, self.length = sample, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.sample(index)


@pytest.fixture
def opened(network):
    def make(sample, *shapes, outputs=(1, 3), length=8):
        net = network(*shapes, outputs=outputs)
        held_out = (
            [tuple(torch.zeros(shape) for shape in shapes)] if len(shapes) > 1 else torch.zeros(shapes[0])
        )
        other = Listed(lambda index: (held_out[0] if len(shapes) > 1 else held_out, 0), 2)
        return open_data(Listed(sample, length), other, net).training

    return make


@pytest.mark.parametrize("lead", [(), (1,)])
@pytest.mark.parametrize("make", [torch.full, np.full])
def test_samples_with_and_without_the_batch_axis(opened, lead, make):
    source = opened(lambda index: (make((*lead, 2, 3), float(index)), index % 3), (1, 2, 3))
    batch = source.fetch([4, 1], None)
    assert batch.inputs[0].dtype == torch.float32
    assert batch.inputs[0][:, 0, 0].tolist() == [4, 1]
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == [1, 1]
    assert (source.name, source.classes, source.labelled, len(source)) == ("Listed", None, True, 8)


def test_samples_without_labels(opened):
    source = opened(lambda index: torch.zeros(5), (1, 5))
    assert not source.labelled
    assert source.fetch([0], None).labels is None
    assert not opened(lambda index: (torch.zeros(5), None), (1, 5)).labelled


def test_several_inputs(opened):
    source = opened(lambda index: ((np.ones(4), torch.zeros(1, 2)), 0), (1, 4), (1, 2))
    assert [tuple(each.shape) for each in source.fetch([0, 1, 2], None).inputs] == [(3, 4), (3, 2)]


def test_labels_are_collated_as_torch_does(opened):
    source = opened(lambda index: (torch.zeros(5), {"pitch": 0.5 * index, "name": str(index)}), (1, 5))
    labels = source.fetch([0, 3], None).labels
    assert labels["pitch"].tolist() == [0, 1.5]
    assert labels["name"] == ["0", "3"]


def test_tensor_datasets_work(network):
    train = TensorDataset(torch.zeros(4, 5), torch.arange(4) % 3)
    data = open_data(train, TensorDataset(torch.ones(2, 5), torch.tensor([0, 1])), network((1, 5)))
    assert data.training.fetch([3, 1], None).labels.tolist() == [0, 1]
    assert data.preprocessing is None


def test_samples_that_raise_or_do_not_fit_are_skipped_and_named(opened):
    def sample(index):
        if index == 2:
            raise OSError("disk on fire")
        return torch.zeros(4 if index == 5 else 5), 0

    source = opened(sample, (1, 5))
    for _ in range(2):
        assert len(source.fetch(range(8), None)) == 6
    assert source.unreadable == {
        "2": "OSError: disk on fire",
        "5": "ValueError: an input has the shape (4,), and the network takes (5,)",
    }


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (lambda index: 1 / 0, "gives no sample, of 8 tried; 0: ZeroDivisionError: division by zero"),
        (lambda index: torch.zeros(6), r"an input has the shape \(6,\), and the network takes \(5,\)"),
        (lambda index: (torch.zeros(5), 0, 0), r"a sample is its inputs or \(inputs, label\), not 3 values"),
        (lambda index: ([torch.zeros(5)] * 2, 0), r"a sample has 2 input\(s\), and the network 1"),
        (lambda index: "text", "an input is a str, not a tensor or an array"),
    ],
)
def test_no_sample_at_all_is_told_with_the_first_reason(opened, sample, reason):
    with pytest.raises(UserError, match=reason):
        opened(sample, (1, 5))


@pytest.mark.parametrize(
    ("label", "reason"), [(3, "label 3, and the network has 3 outputs"), (-1, "label -1")]
)
def test_labels_that_are_no_class(opened, label, reason):
    source = opened(lambda index: (torch.zeros(5), label if index == 6 else 0), (1, 5))
    assert source.fetch([0, 1], None).labels.tolist() == [0, 0]
    with pytest.raises(UserError, match=reason):
        source.fetch([5, 6], None)


def test_labels_that_do_not_go_together(opened):
    source = opened(lambda index: (torch.zeros(5), object()), (1, 5))
    with pytest.raises(UserError, match="labels that do not go together: TypeError"):
        source.fetch([0, 1], None)


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (Endless(), "Endless: give a torch Dataset"),
        (7, "is a int: give a torch Dataset"),
        (type("Unmeasured", (Dataset,), {})(), "has no length"),
        (Listed(lambda index: torch.zeros(5), 0), "holds no samples"),
    ],
)
def test_what_is_no_dataset(network, dataset, reason):
    with pytest.raises(UserError, match=reason):
        open_data(dataset, TensorDataset(torch.zeros(2, 5)), network((1, 5)))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of functions that make datasets, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "own_tones.py").write_text(
        "import random, numpy, torch\n"
        "from torch.utils.data import TensorDataset\n"
        "def train(): return TensorDataset(torch.rand(4, 5), torch.arange(4) % 3)\n"
        "def held_out(): return TensorDataset(torch.full((2, 5), random.random() + numpy.random.rand()))\n"
        "def broken(): raise KeyError('no such tone')\n"
        "def nothing(): pass\n"
        "def needy(path): pass\n"
    )
    return tmp_path


def test_functions_are_called_with_the_seed_and_nothing_else_changes(module, network):
    def inputs(seed: int):
        data = open_data("own_tones:train", "own_tones:held_out", network((1, 5)), seed=seed)
        assert data.training.name == "own_tones:train"
        return torch.cat(
            [source.fetch([0, 1], None).inputs[0] for source in (data.training, data.validation)]
        )

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = inputs(1)
    assert torch.equal(first, inputs(1))
    assert not torch.equal(first, inputs(2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("own_tones:broken", "own_tones:broken failed: KeyError: 'no such tone'"),
        ("own_tones:nothing", "own_tones:nothing is a NoneType: give a torch Dataset"),
        ("own_tones:needy", "own_tones:needy failed: TypeError"),
        ("own_tones:missing", "there is no missing in own_tones"),
    ],
)
def test_functions_that_make_none(module, network, reference, reason):
    with pytest.raises(UserError, match=reason):
        open_data(reference, "own_tones:held_out", network((1, 5)))


def test_a_loader_reads_datasets(opened):
    source = opened(lambda index: (torch.full((5,), float(index)), 0), (1, 5))
    seen = torch.cat([batch.inputs[0][:, 0] for batch in Loader(source, 3, seed=0).in_order()])
    assert seen.tolist() == list(range(8))
