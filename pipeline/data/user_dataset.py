"""A user's own `torch.utils.data.Dataset`, which preprocesses by itself.

A sample is its inputs, or `(inputs, label)`; inputs are a tensor or an array, or a tuple of these for a
network of several inputs, with or without the network's batch axis of 1.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from pipeline.data.needs import Needs
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.source import NOTHING, Batch
from pipeline.data.user_code import find_function, reason_of
from pipeline.errors import UserError

TRIED_AT_OPENING = 100


@dataclass(frozen=True)
class UserDataset:
    """A dataset, and what to call it."""

    name: str
    dataset: Dataset
    class_names = None

    @property
    def place(self) -> int:
        """The dataset's identity."""
        return id(self.dataset)

    def usual_preprocessing(self, needs: Needs) -> None:
        """Return None: the dataset preprocesses by itself."""

    def source(self, needs: Needs, preprocessing: Preprocessing | None) -> DatasetSource:
        """Return the samples as the network gets them."""
        return DatasetSource(self.name, self.dataset, needs)


class DatasetSource:
    """The samples of a dataset; one that raises or does not fit the network is left out and noted."""

    def __init__(self, name: str, dataset: Dataset, needs: Needs):
        self.name = name
        self.classes = None
        self.unreadable: dict[str, str] = {}
        self._dataset = dataset
        self._needs = needs
        self.labelled = self._first_label() is not None

    def __len__(self) -> int:
        return len(self._dataset)

    def fetch(self, indices: Sequence[int], augmentation: torch.Generator | None) -> Batch:
        """Ask the dataset for samples, in this order; augmentation is its own business."""
        samples = [sample for sample in map(self._sample, indices) if sample is not None]
        if not samples:
            return NOTHING
        inputs = tuple(torch.stack(each) for each in zip(*(inputs for inputs, _ in samples), strict=True))
        return Batch(inputs, self._collated([label for _, label in samples]) if self.labelled else None)

    def _first_label(self) -> Any:
        for index in range(min(len(self), TRIED_AT_OPENING)):
            if (sample := self._sample(index)) is not None:
                return sample[1]
        if len(self):
            index, reason = next(iter(self.unreadable.items()))
            raise UserError(
                f"{self.name} gives no sample, of {len(self.unreadable)} tried; {index}: {reason}"
            )
        return None

    def _sample(self, index: int) -> tuple[tuple[Tensor, ...], Any] | None:
        try:
            inputs, label = _parts(self._dataset[int(index)])
            fitted = _fitted(inputs, self._needs)
        except MemoryError:
            raise
        except Exception as error:
            self.unreadable[str(int(index))] = reason_of(error)
            return None
        return fitted, label

    def _collated(self, labels: list[Any]) -> Any:
        try:
            collated = default_collate(labels)
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(
                f"{self.name} gives labels that do not go together: {reason_of(error)}"
            ) from error
        if not isinstance(collated, Tensor) or collated.ndim != 1 or collated.is_floating_point():
            return collated
        if int(collated.min()) < 0:
            raise UserError(f"{self.name} gives the label {int(collated.min())}: class numbers begin with 0")
        self._needs.check_largest_label(self.name, int(collated.max()))
        return collated.long()


def call_for_dataset(reference: str, seed: int) -> UserDataset:
    """Call what `module:function` names.

    Random numbers of torch, NumPy and Python begin at the seed during the call, so that a dataset which is
    split at random is split alike in every run.

    Raises
    ------
    UserError
        There is no such function, it raises, or returns something else than a dataset with a length.
    """
    function = find_function(reference)
    try:
        with _seeded(seed):
            dataset = function()
    except (Exception, SystemExit) as error:
        raise UserError(f"{reference} failed: {reason_of(error)}") from error
    return of_dataset(dataset, reference)


def of_dataset(dataset: Dataset, name: str | None = None) -> UserDataset:
    """Take a dataset as it is.

    Raises
    ------
    UserError
        It has no length or no samples by number.
    """
    name = name or type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        kind = type(dataset).__name__
        raise UserError(f"{name} is a {kind}: give a torch Dataset with __len__ and __getitem__")
    try:
        len(dataset)
    except Exception:
        raise UserError(f"{name} has no length: give a torch Dataset with __len__ and __getitem__") from None
    return UserDataset(name, dataset)


def _parts(sample: Any) -> tuple[Any, Any]:
    if isinstance(sample, tuple | list):
        if len(sample) not in (1, 2):
            raise TypeError(f"a sample is its inputs or (inputs, label), not {len(sample)} values")
        return (*sample, None)[:2]
    return sample, None


def _fitted(inputs: Any, needs: Needs) -> tuple[Tensor, ...]:
    given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    if len(given) != len(needs.inputs):
        raise ValueError(f"a sample has {len(given)} input(s), and the network {len(needs.inputs)}")
    return tuple(map(_fit, given, needs.shapes))


def _fit(value: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray | np.generic):
        raise TypeError(f"an input is a {type(value).__name__}, not a tensor or an array")
    tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    if tuple(tensor.shape) not in (shape, (1, *shape)):
        raise ValueError(f"an input has the shape {tuple(tensor.shape)}, and the network takes {shape}")
    return tensor.reshape(shape).float()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
