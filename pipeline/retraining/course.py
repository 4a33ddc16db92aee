"""What stays the same in all steps of a retraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm

from pipeline.data import Loader, Metric
from pipeline.retraining.checkpoint import Identity
from pipeline.retraining.evaluate import evaluate
from pipeline.retraining.objective import LabelLoss, Output, Outputs
from pipeline.retraining.processes import Processes
from pipeline.retraining.progress import Show
from pipeline.retraining.recipes import FINISHES, RECIPES, Recipe
from pipeline.retraining.settings import Settings
from pipeline.retraining.traced import Traced
from relay_passes import RankChoice


@dataclass(frozen=True)
class Course:
    """The network, the data, and how it is taught.

    `ranks` says how convolutions are decomposed in the last step; `training` and `validation` are this
    process's loaders.
    """

    out: Path
    identity: Identity
    original: tvm.IRModule
    ranks: RankChoice | None
    training: Loader
    validation: Loader
    metric: Metric
    kinds: Sequence[Output]
    label_loss: LabelLoss | None
    processes: Processes
    checkpoint_seconds: float
    show: Show
    say: Callable[[str], None]

    @property
    def settings(self) -> Settings:
        """The recipe and its numbers."""
        return self.identity.settings

    @property
    def recipe(self) -> Recipe:
        """Of the merge steps."""
        return RECIPES[self.settings.recipe]

    @property
    def finish_recipe(self) -> Recipe:
        """Of the training after the last step."""
        return FINISHES[self.settings.recipe]

    @property
    def step_batches(self) -> int:
        """How many batches a step may take."""
        return max(1, round(self.settings.epochs * self.training.batches_per_epoch))

    @property
    def finish_batches(self) -> int:
        """How many batches all layers may take after the last step."""
        return round(self.settings.finish_epochs * self.training.batches_per_epoch)

    @property
    def calibration(self) -> Loader:
        """The training batches of all processes together, so that each fits the same first weights."""
        loader = self.training
        return Loader(loader.source, loader.batch_size, seed=self.settings.seed, augment=True)

    def accuracy(self, network: Traced, original: Traced | None = None) -> float:
        """The metric of a network on the validation data; without the `original` it is that itself."""
        reference = None if original is None else _outputs(original)
        return evaluate(_outputs(network), self.validation, self.metric, self.processes, reference)


def _outputs(network: Traced) -> Callable[..., Outputs]:
    return lambda *inputs: network(*inputs).outputs
