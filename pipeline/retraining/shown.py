"""Tell how far a step is."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

from pipeline.retraining.progress import Show, TrainingProgress
from pipeline.retraining.training import Losses

LATEST = 20
"""Batches over which the loss that is shown is a mean."""


class Shown:
    """Tells of a step at its start and after each batch.

    Parameters
    ----------
    show : Show
    start : TrainingProgress
    """

    def __init__(self, show: Show, start: TrainingProgress):
        self._show, self._start, self._began = show, start, time.monotonic()
        self._losses: deque[Losses] = deque(maxlen=LATEST)
        show(start)

    def update(self, iteration: int, losses: Losses, accuracy: float, learning_rate: float) -> None:
        """Tell of a batch."""
        start = self._start
        self._losses.append(losses)
        each = (time.monotonic() - self._began) / (iteration - start.iteration)
        left = start.iterations * max(1, start.steps - start.step) - iteration
        parts = {
            name: sum(each.parts[name] for each in self._losses) / len(self._losses) for name in losses.parts
        }
        self._show(
            replace(
                start,
                iteration=iteration,
                loss=sum(parts.values()),
                losses=parts,
                accuracy=accuracy,
                seconds_left=each * left,
                learning_rate=learning_rate,
            )
        )
