"""Half of the samples mirrored left to right, and only where they are augmented."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import Batch, Mirrored
from pipeline.data.source import NOTHING


class Numbers:
    """Samples of a shape, each of its own numbers."""

    name, classes, labelled = "zähler", 3, True

    def __init__(self, *shape: int, count: int = 40):
        self.samples = torch.arange(count * int(np.prod(shape)), dtype=torch.float32).reshape(count, *shape)
        self.unreadable = {"a b.png": "cut off"}

    def __len__(self):
        return len(self.samples)

    def fetch(self, indices, augmentation):
        inputs = self.samples[torch.as_tensor(indices, dtype=torch.int64)]
        return Batch((inputs,), torch.as_tensor(indices) % 3) if len(inputs) else NOTHING


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("shape", "across"),
    [((3, 5, 4), 3), ((1, 5, 4), 3), ((5, 4, 3), 2), ((5, 4, 1), 2), ((7, 5, 4), 3), ((3, 4, 3), 3)],
)
def test_each_sample_is_mirrored_or_not(shape, across):
    source = Numbers(*shape)
    (found,) = Mirrored(source).fetch(range(40), generator()).inputs
    mirrored = source.samples.flip(across)
    as_it_was = [torch.equal(one, other) for one, other in zip(found, source.samples, strict=True)]
    turned = [torch.equal(one, other) for one, other in zip(found, mirrored, strict=True)]
    assert all(a != b for a, b in zip(as_it_was, turned, strict=True))
    assert 10 <= sum(turned) <= 30


@given(seed=st.integers(0, 2**32), count=st.integers(1, 9))
def test_the_generator_alone_decides(seed, count):
    mirrored = Mirrored(Numbers(3, 5, 4))
    one, other = (mirrored.fetch(range(count), generator(seed)) for _ in range(2))
    assert torch.equal(one.inputs[0], other.inputs[0])
    assert torch.equal(one.labels, torch.arange(count) % 3)


def test_several_inputs_of_a_sample_are_mirrored_together():
    class Pairs(Numbers):
        def fetch(self, indices, augmentation):
            (inputs,) = super().fetch(indices, augmentation).inputs
            return Batch((inputs, inputs + 1), None)

    left, right = Mirrored(Pairs(1, 2, 4)).fetch(range(40), generator()).inputs
    assert torch.equal(left + 1, right)


def test_without_a_generator_nothing_changes():
    source = Numbers(3, 5, 4)
    (found,) = Mirrored(source).fetch([3, 1], None).inputs
    assert torch.equal(found, source.samples[[3, 1]])


def test_a_batch_without_samples():
    assert len(Mirrored(Numbers(3, 5, 4)).fetch([], generator())) == 0


def test_everything_else_is_the_source_s():
    source = Numbers(3, 5, 4)
    mirrored = Mirrored(source)
    assert (mirrored.name, mirrored.classes, mirrored.labelled, len(mirrored)) == ("zähler", 3, True, 40)
    assert mirrored.unreadable is source.unreadable
