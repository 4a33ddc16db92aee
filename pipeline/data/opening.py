"""Open training and validation data, and check them against the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.data.preprocessing import Preprocessing
from pipeline.data.source import Source

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from pipeline.network import Network


@dataclass(frozen=True)
class Data:
    """Training and validation data, preprocessed alike.

    Parameters
    ----------
    training, validation : Source
    preprocessing : Preprocessing, optional
        None where a user's dataset does it by itself.
    """

    training: Source
    validation: Source
    preprocessing: Preprocessing | None


def open_data(
    training: str | os.PathLike[str] | Dataset,
    validation: str | os.PathLike[str] | Dataset | None,
    network: Network,
    *,
    preprocessing: str | os.PathLike[str] | Preprocessing | None = None,
    classes: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Data:
    """Open the data for a network."""
    raise NotImplementedError
