"""Batches in an order that depends on the seed and the epoch alone.

The order of an epoch is a random permutation drawn from (seed, epoch). Global batch `i` is its i-th run of
`batch_size` samples, and process `r` of `w` takes every w-th of them from the r-th on. Nothing is remembered
from batch to batch, so a run that was killed goes on at any batch as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache, partial
from itertools import count

import numpy as np
import torch

from pipeline.data.read_ahead import read_ahead
from pipeline.data.source import Batch, Source
from pipeline.errors import UserError

MOST_UNREADABLE = 64
"""Batches in a row without one readable sample, after which the data is given up."""


class Loader:
    """The batches of one process.

    Parameters
    ----------
    source : Source
    batch_size : int
        Samples of a global batch, which is shared between the processes.
    seed : int
    rank, world : int
        This process's number and how many there are.
    augment : bool
        Whether training batches are augmented.

    Raises
    ------
    UserError
        A batch has fewer samples than there are processes.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        augment: bool = False,
    ):
        self.source = source
        self.batch_size = min(batch_size, len(source))
        if self.batch_size < world:
            raise UserError(
                f"a batch of {self.batch_size} samples of {source.name} cannot be shared between {world} "
                "processes: give a larger batch or more data, or start fewer processes"
            )
        self._seed, self._rank, self._world, self._augment = seed, rank, world, augment

    @property
    def batches_per_epoch(self) -> int:
        """Whole global batches; the remainder is dropped. Data smaller than a batch is one batch."""
        return len(self.source) // self.batch_size

    def batch(self, epoch: int, index: int) -> Batch:
        """Return this process's part of a global batch.

        It is never empty: where no sample of it can be read, those of the following batches take their place.

        Raises
        ------
        UserError
            No sample can be read.
        """
        order = _order(len(self.source), self._seed, epoch)
        augmentation = _generator(self._seed, epoch, index, self._rank) if self._augment else None
        for ahead in range(min(self.batches_per_epoch, MOST_UNREADABLE)):
            first = (index + ahead) % self.batches_per_epoch * self.batch_size
            part = order[first : first + self.batch_size][self._rank :: self._world]
            if len(batch := self.source.fetch(part.tolist(), augmentation)):
                return batch
        raise self._unreadable()

    def training(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches without end, from a number on that counts through the epochs.

        They are read ahead in a background thread, which ends when the iterator is closed.
        """
        return read_ahead(
            partial(self.batch, *divmod(number, self.batches_per_epoch)) for number in count(start)
        )

    def in_order(self) -> Iterator[Batch]:
        """Yield each sample of this process's share once, neither shuffled nor augmented.

        Raises
        ------
        UserError
            No sample can be read.
        """
        share = range(self._rank, len(self.source), self._world)
        size = -(-self.batch_size // self._world)
        parts = (share[first : first + size] for first in range(0, len(share), size))
        read = 0
        with closing(read_ahead(partial(self.source.fetch, part, None) for part in parts)) as batches:
            for batch in filter(len, batches):
                read += len(batch)
                yield batch
        if not read:
            raise self._unreadable()

    def _unreadable(self) -> UserError:
        tried = len(self.source.unreadable)
        name, reason = next(iter(self.source.unreadable.items()))
        return UserError(
            f"no sample of {self.source.name} can be read, of {tried} tried; the first, {name}: {reason}"
        )


@lru_cache(maxsize=4)
def _order(samples: int, seed: int, epoch: int) -> np.ndarray:
    return torch.randperm(samples, generator=_generator(seed, epoch)).numpy()


def _generator(seed: int, *place: int) -> torch.Generator:
    """Return a generator that depends on the seed and the place alone, and differs for every other place."""
    mixed = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))
