"""Samples by their numbers, in batches, as a network gets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some samples, preprocessed.

    Parameters
    ----------
    inputs : tuple of torch.Tensor
        In the order of the network's inputs, each (B, ...) and float32.
    labels : torch.Tensor or object, optional
        Class indices, int64 (B,); or what a user's dataset gave, collated; None where there are none.
    """

    inputs: tuple[Tensor, ...]
    labels: Any | None

    def __len__(self) -> int:
        return len(self.inputs[0]) if self.inputs else 0


NOTHING = Batch((), None)
"""A batch none of whose samples could be read."""


class Source(Protocol):
    """Samples by their numbers.

    Attributes
    ----------
    name : str
        What to call it in a report: a path, or module:function.
    classes : int, optional
        How many classes the labels tell apart, where that is known.
    labelled : bool
    unreadable : dict of str to str
        The samples that could not be read so far, and why; it grows while reading.
    """

    name: str
    classes: int | None
    labelled: bool
    unreadable: dict[str, str]

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int], augmentation: torch.Generator | None) -> Batch:
        """Return the samples of these numbers; those that cannot be read are left out and noted.

        Without a generator for the augmentation every call gives the same.
        """
        ...
