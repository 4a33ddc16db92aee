"""Samples that are held in memory as arrays: images of bytes or floats, or what the network takes as it is.

Floats that already have the shape of the network's inputs are given to it unchanged. Other arrays are images:
(N, H, W), (N, C, H, W) or (N, H, W, C), told apart by the number of channels.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.needs import ImageInput, Needs
from pipeline.data.pixels import normalised, resized
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.presets import for_arrays
from pipeline.data.source import Batch
from pipeline.errors import UserError


@dataclass(frozen=True)
class Arrays:
    """Arrays as they were read.

    Parameters
    ----------
    name : str
    place : hashable
    inputs : tuple of numpy.ndarray
        In the order of the network's inputs, each (N, ...).
    labels : numpy.ndarray, optional
        (N,) or (N, 1), of whole numbers.
    """

    name: str
    place: Hashable
    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray | None
    class_names = None

    def usual_preprocessing(self, needs: Needs) -> Preprocessing | None:
        """Return resizing to the network's size, with bytes as 0 to 1."""
        if needs.image is None:
            return None
        return for_arrays(needs.image, of_bytes=self.inputs[0].dtype == np.uint8)

    def source(self, needs: Needs, preprocessing: Preprocessing | None) -> ArraySource:
        """Return the arrays as the network gets them."""
        for array in self.inputs:
            if array.dtype != np.uint8 and array.dtype.kind != "f":
                raise UserError(f"{self.name} holds samples of {array.dtype}: store them as uint8 or float32")
            if len(array) != len(self.inputs[0]):
                raise UserError(
                    f"{self.name} holds {len(self.inputs[0])} and {len(array)} samples: store as many"
                )
        labels = None if self.labels is None else self._class_indices(needs)
        if preprocessing is None or needs.image is None:
            self._check_shapes(needs)
            return ArraySource(self.name, self.inputs, labels, None, False)
        return ArraySource(
            self.name, (self._planes(needs.image),), labels, preprocessing, needs.image.channels_last
        )

    def _check_shapes(self, needs: Needs) -> None:
        for array, spec, shape in zip(self.inputs, needs.inputs, needs.shapes, strict=True):
            if array.shape[1:] != shape or array.dtype.kind != "f":
                raise UserError(
                    f"{self.name} holds {array.dtype} samples of {array.shape[1:]}, and the network's input "
                    f"{spec.name} takes {shape}: store them as float32 in that shape"
                )

    def _class_indices(self, needs: Needs) -> np.ndarray:
        labels, samples = self.labels, len(self.inputs[0])
        if labels.dtype.kind not in "iu":
            raise UserError(f"{self.name} holds labels of {labels.dtype}: store class numbers as int64")
        if labels.shape not in ((samples,), (samples, 1)):
            raise UserError(
                f"{self.name} holds labels of shape {labels.shape} for {samples} samples: store one for each"
            )
        labels = labels.reshape(-1)
        if samples and labels.min() < 0:
            raise UserError(f"{self.name} holds the label {labels.min()}: class numbers begin with 0")
        if samples:
            needs.check_largest_label(self.name, int(labels.max()))
        return labels.astype(np.int64)

    def _planes(self, image: ImageInput) -> np.ndarray:
        """Return a view of (N, C, H, W)."""
        array = self.inputs[0]
        if array.ndim == 3:
            return array[:, None]
        if array.ndim == 4:
            for channels in dict.fromkeys((image.channels, 1)):
                for axis in (3, 1) if image.channels_last else (1, 3):
                    if array.shape[axis] == channels:
                        return np.moveaxis(array, axis, 1)
        raise UserError(
            f"{self.name} holds samples of {array.shape[1:]}, and the network takes images of {image.size} "
            f"with {image.channels} channel(s): store (N, H, W), (N, C, H, W) or (N, H, W, C)"
        )


class ArraySource:
    """Arrays in memory, preprocessed a batch at a time; there is nothing in them that cannot be read.

    Parameters
    ----------
    name : str
    inputs : tuple of numpy.ndarray
        (N, C, H, W) where there is a preprocessing.
    labels : numpy.ndarray, optional
        int64, (N,).
    preprocessing : Preprocessing, optional
    channels_last : bool
    """

    def __init__(
        self,
        name: str,
        inputs: tuple[np.ndarray, ...],
        labels: np.ndarray | None,
        preprocessing: Preprocessing | None,
        channels_last: bool,
    ):
        self.name = name
        self.classes = None if labels is None or not len(labels) else int(labels.max()) + 1
        self.labelled = labels is not None
        self.unreadable: dict[str, str] = {}
        self._inputs = inputs
        self._labels = labels
        self._preprocessing = preprocessing
        self._channels_last = channels_last

    def __len__(self) -> int:
        return len(self._inputs[0])

    def fetch(self, indices: Sequence[int], augmentation: torch.Generator | None) -> Batch:
        """Preprocess samples, in this order; they are never augmented, since a mirrored digit is none."""
        at = np.asarray(indices, dtype=np.int64)
        labels = None if self._labels is None else torch.from_numpy(self._labels[at])
        return Batch(tuple(self._prepared(array[at]) for array in self._inputs), labels)

    def _prepared(self, samples: np.ndarray) -> Tensor:
        native = np.ascontiguousarray(samples, dtype=np.uint8 if samples.dtype == np.uint8 else np.float32)
        if self._preprocessing is None:
            return torch.from_numpy(native)
        pixels = resized(native, self._preprocessing)
        return normalised(pixels, self._preprocessing, channels_last=self._channels_last)
