"""Write how a retraining goes for TensorBoard: loss and its parts, the metric, the learning rate.

The place on the axis is the number of batches trained on in all steps. A retraining that was killed goes on
at the place that it reached, and TensorBoard drops what was written beyond it before (`purge_step`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.files import check_writable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from pipeline.retraining.progress import TrainingProgress


class Writer:
    """Writes each state of a retraining that it is called with.

    Parameters
    ----------
    directory : path
        Where the logs go; made when the first state comes.

    Raises
    ------
    UserError
        The package `tensorboard` is not installed, or the directory cannot be written to.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "--tensorboard needs a package that is not installed: pip install tensorboard"
            ) from None
        check_writable(directory)
        self._directory, self._open = Path(directory), SummaryWriter
        self._writer: SummaryWriter | None = None

    def __call__(self, update: TrainingProgress) -> None:
        """Write the numbers that are known; they can be read at once."""
        place = update.batches_before + update.iteration
        if self._writer is None:
            self._writer = self._open(str(self._directory), purge_step=place)
        for name, value in _scalars(update):
            self._writer.add_scalar(name, value, place)
        self._writer.flush()


def _scalars(update: TrainingProgress) -> Iterator[tuple[str, float]]:
    values = {
        "loss": update.loss,
        **{f"loss/{name}": value for name, value in update.losses.items()},
        f"accuracy/{update.metric}": update.accuracy,
        "learning rate": update.learning_rate,
    }
    return ((name, value) for name, value in values.items() if value is not None)
