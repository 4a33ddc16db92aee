"""How good outputs are: one number for each sample, higher is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """A measure whose value on a data set is the mean over its samples.

    Parameters
    ----------
    name : str
    labels_needed : bool
    """

    name: str
    labels_needed: bool
    compute: Callable[[tuple[Tensor, ...], Any, tuple[Tensor, ...] | None], Tensor]

    def scores(
        self, outputs: tuple[Tensor, ...], labels: Any, reference: tuple[Tensor, ...] | None = None
    ) -> Tensor:
        """Return one number for each sample, (B,)."""
        raise NotImplementedError


def find_metric(name: str) -> Metric:
    """Return the metric of a name."""
    raise NotImplementedError
