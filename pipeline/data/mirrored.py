"""Training samples, half of them mirrored left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.source import Batch, Source

COLOURS = (1, 3)


@dataclass(frozen=True)
class Mirrored:
    """A source whose samples are mirrored half of the time where they are augmented.

    Parameters
    ----------
    source : Source
        Images, (B, C, H, W) or (B, H, W, C).
    """

    source: Source

    @property
    def name(self) -> str:
        """That of the source."""
        return self.source.name

    @property
    def classes(self) -> int | None:
        """Those of the source."""
        return self.source.classes

    @property
    def labelled(self) -> bool:
        """Whether the source is."""
        return self.source.labelled

    @property
    def unreadable(self) -> dict[str, str]:
        """Those of the source."""
        return self.source.unreadable

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, indices: Sequence[int], augmentation: torch.Generator | None) -> Batch:
        """Return samples as the source does, and mirror some with a generator."""
        batch = self.source.fetch(indices, augmentation)
        if augmentation is None or not len(batch):
            return batch
        chosen = torch.rand(len(batch), generator=augmentation) < 0.5
        return Batch(tuple(_mirrored(each, chosen) for each in batch.inputs), batch.labels)


def _mirrored(images: Tensor, chosen: Tensor) -> Tensor:
    is_last = images.dim() == 4 and images.shape[3] in COLOURS and images.shape[1] not in COLOURS
    return torch.where(chosen.view(-1, *(1,) * (images.dim() - 1)), images.flip(2 if is_last else -1), images)
