import threading
from itertools import chain, islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import Batch, Loader, open_data
from pipeline.data.source import NOTHING
from pipeline.errors import UserError


class Numbers:
    """Sample i is the number i, plus a random one when augmented; some cannot be read."""

    name, classes, labelled = "numbers", None, True

    def __init__(self, length: int, broken: frozenset[int] = frozenset()):
        self.length, self.broken, self.unreadable = length, broken, {}

    def __len__(self) -> int:
        return self.length

    def fetch(self, indices, augmentation) -> Batch:
        self.unreadable.update({str(each): "broken" for each in indices if each in self.broken})
        kept = torch.tensor([each for each in indices if each not in self.broken], dtype=torch.int64)
        if not len(kept):
            return NOTHING
        noise = 0 if augmentation is None else torch.rand(len(kept), generator=augmentation)
        return Batch((kept + noise,), kept)


def labels(batches) -> list[int]:
    return [label for batch in batches for label in batch.labels.tolist()]


def epoch(loader: Loader, number: int) -> list[Batch]:
    return [loader.batch(number, index) for index in range(loader.batches_per_epoch)]


@settings(max_examples=80, deadline=None)
@given(
    samples=st.integers(4, 200),
    batch_size=st.integers(4, 40),
    world=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_shards_are_the_global_batches_and_an_epoch_uses_a_sample_once(samples, batch_size, world, seed):
    whole = Loader(Numbers(samples), batch_size, seed=seed)
    shards = [
        Loader(Numbers(samples), batch_size, seed=seed, rank=rank, world=world) for rank in range(world)
    ]
    size = min(batch_size, samples)
    assert whole.batches_per_epoch == max(1, samples // batch_size)
    for batch, parts in zip(
        epoch(whole, 3), zip(*(epoch(shard, 3) for shard in shards), strict=True), strict=True
    ):
        assert len(batch) == size
        assert sorted(labels([batch])) == sorted(labels(parts))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    seen = labels(epoch(whole, 3))
    assert len(set(seen)) == len(seen) == whole.batches_per_epoch * size


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(4, 100), batch_size=st.integers(4, 40), world=st.integers(1, 4))
def test_in_order_gives_each_sample_once_whatever_the_number_of_processes(samples, batch_size, world):
    shares = [
        labels(Loader(Numbers(samples), batch_size, seed=0, rank=rank, world=world).in_order())
        for rank in range(world)
    ]
    assert sorted(chain(*shares)) == list(range(samples))
    assert all(share == sorted(share) for share in shares)


def test_the_order_depends_on_seed_and_epoch():
    def order(seed: int, number: int) -> list[int]:
        return labels(epoch(Loader(Numbers(50), 10, seed=seed), number))

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, number)) for seed in range(3) for number in range(3)}) == 9


@pytest.mark.parametrize("start", [0, 1, 4, 5, 13])
def test_training_goes_on_anywhere_bit_for_bit(start):
    def run(first: int, count: int) -> list[Batch]:
        iterator = Loader(Numbers(50), 10, seed=7, augment=True).training(first)
        batches = list(islice(iterator, count))
        iterator.close()
        return batches

    unbroken, resumed = run(0, 20)[start:], run(start, 20 - start)
    for one, other in zip(unbroken, resumed, strict=True):
        assert torch.equal(one.inputs[0], other.inputs[0])


def test_augmentation_differs_from_batch_to_batch_and_rank_to_rank():
    def noise(**where) -> tuple[float, ...]:
        place = {"epoch": 0, "index": 0, "rank": 0, "seed": 0, **where}
        source = Loader(Numbers(40), 8, seed=place["seed"], rank=place["rank"], world=2, augment=True)
        batch = source.batch(place["epoch"], place["index"])
        return tuple((batch.inputs[0] - batch.labels).tolist())

    assert noise() == noise()
    places = ({}, {"epoch": 1}, {"index": 1}, {"rank": 1}, {"seed": 1})
    assert len({noise(**place) for place in places}) == len(places)
    assert Loader(Numbers(40), 8, seed=0).batch(0, 0).inputs[0].dtype == torch.int64


def test_a_remainder_is_dropped_and_little_data_is_one_batch():
    assert Loader(Numbers(25), 10, seed=0).batches_per_epoch == 2
    little = Loader(Numbers(3), 10, seed=0)
    assert little.batches_per_epoch == 1
    assert sorted(labels([little.batch(0, 0)])) == [0, 1, 2]


def test_a_batch_is_never_empty_where_anything_can_be_read():
    readable = 17
    loader = Loader(Numbers(40, frozenset(range(40)) - {readable}), 4, seed=0)
    assert {tuple(labels([batch])) for batch in epoch(loader, 0)} == {(readable,)}
    assert labels(loader.in_order()) == [readable]


def test_nothing_can_be_read():
    loader = Loader(Numbers(40, frozenset(range(40))), 4, seed=0)
    with pytest.raises(
        UserError, match=r"no sample of numbers can be read, of 40 tried; the first, .*: broken"
    ):
        loader.batch(0, 0)
    with pytest.raises(UserError, match="no sample of numbers can be read"):
        list(loader.in_order())
    with pytest.raises(UserError, match="no sample of numbers can be read"):
        next(loader.training())


def test_vast_unreadable_data_is_given_up_early():
    source = Numbers(100_000, frozenset(range(100_000)))
    with pytest.raises(UserError, match="of 640 tried"):
        Loader(source, 10, seed=0).batch(0, 0)


def test_a_batch_must_reach_for_all_processes():
    with pytest.raises(
        UserError, match="a batch of 3 samples of numbers cannot be shared between 4 processes"
    ):
        Loader(Numbers(3), 10, seed=0, world=4)


def test_no_thread_is_left():
    loader = Loader(Numbers(40), 4, seed=0)
    iterator = loader.in_order()
    next(iterator)
    iterator.close()
    list(loader.in_order())
    training = loader.training()
    next(training)
    training.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_images_are_the_same_bit_for_bit_from_two_runs(folder, tmp_path, draw, network):
    for name in ("cat", "dog", "fish"):
        draw(tmp_path / "held" / name / "0.png")

    def run(start: int, count: int) -> list[Batch]:
        data = open_data(folder, tmp_path / "held", network())
        iterator = Loader(data.training, 4, seed=5, augment=True).training(start)
        batches = list(islice(iterator, count))
        iterator.close()
        return batches

    for one, other in zip(run(0, 6)[2:], run(2, 4), strict=True):
        assert torch.equal(one.inputs[0], other.inputs[0])
        assert torch.equal(one.labels, other.labels)
