"""What a retraining hands over besides the network: retraining.json."""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat, NonNegativeFloat, NonNegativeInt

from pipeline.data.preprocessing import Preprocessing
from pipeline.record import Name, Record
from pipeline.retraining.settings import Settings
from relay_passes import MergePlan

SCHEMA_VERSION = 1


class DataFacts(Record):
    """Where the samples came from, how many there are, and which could not be read."""

    name: Name
    samples: NonNegativeInt
    classes: NonNegativeInt | None = None
    labelled: bool
    unreadable: tuple[Name, ...] = ()
    """The first of those that were skipped."""
    skipped: NonNegativeInt = 0


class StepResult(Record):
    """One merge step.

    Attributes
    ----------
    name : str
        `conv1`, or the names of merges that were retrained together; `finish` for the training after them.
    merges : tuple of str
        Their names; none in `finish`.
    kept : bool
        Whether the accuracy came back; otherwise the step was undone, and `reason` says why.
    before, started, accuracy : float
        The metric on the validation data before the step, after the new layers were given their first
        weights, and after retraining.
    looks : tuple of (int, float)
        The metric while training, each with the batches that were trained on before.
    iterations : int
        Batches that were trained on.
    epochs : float
        The same in passes over the training data.
    seconds : float
    """

    name: Name
    merges: tuple[Name, ...]
    kept: bool
    reason: str | None = None
    before: FiniteFloat
    started: FiniteFloat
    accuracy: FiniteFloat
    looks: tuple[tuple[NonNegativeInt, FiniteFloat], ...] = ()
    iterations: NonNegativeInt
    epochs: NonNegativeFloat
    seconds: NonNegativeFloat


class Retraining(Record):
    """All of retraining.json.

    Attributes
    ----------
    source_digest : str
        Of the original network.
    metric : str
    loss : str, optional
        The user's own loss.
    ranks : str, optional
        How the ranks of decompositions were chosen.
    original, accuracy : float
        The metric of the original and of the retrained network on the validation data.
    plan : MergePlan
        The merges that were made, kept and refused.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    network: Name
    source_digest: str
    metric: str
    loss: str | None = None
    ranks: str | None = None
    original: FiniteFloat
    accuracy: FiniteFloat
    training: DataFacts
    validation: DataFacts
    preprocessing: Preprocessing | None = None
    settings: Settings
    steps: tuple[StepResult, ...]
    plan: MergePlan

    @property
    def drop(self) -> float:
        """How much the metric lost."""
        return self.original - self.accuracy
