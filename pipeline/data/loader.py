"""Batches in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.data.source import Batch, Source


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
        raise NotImplementedError

    @property
    def batches_per_epoch(self) -> int:
        """Whole global batches; the remainder is dropped."""
        raise NotImplementedError

    def batch(self, epoch: int, index: int) -> Batch:
        """Return this process's part of a global batch; never empty."""
        raise NotImplementedError

    def training(self, start: int = 0) -> Iterator[Batch]:
        """Yield batches without end, from a number on that counts through the epochs."""
        raise NotImplementedError

    def in_order(self) -> Iterator[Batch]:
        """Yield each sample of this process's share once, neither shuffled nor augmented."""
        raise NotImplementedError
