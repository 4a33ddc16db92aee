"""How far a retraining is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a retraining, at the start of a step and after every few batches.

    Attributes
    ----------
    step, steps : int
        The number of the merge step, from 0, and how many there are.
    name : str
        The step's name.
    iteration, iterations : int
        Batches of this step that were trained on, and how many it may take.
    loss : float, optional
        Mean of the last batches.
    losses : dict of str to float
        Its parts: `feature`, `distillation`, `label`.
    accuracy : float, optional
        The metric on the validation data when it was last looked at.
    batches_before : int
        Trained on in the steps before.
    original, wanted : float
        The original's metric, and the one at which the step ends.
    metric : str
    seconds_left : float, optional
        For all steps, if each takes all the batches it may.
    learning_rate : float, optional
    """

    step: int
    steps: int
    name: str
    iteration: int
    iterations: int
    batches_before: int
    original: float
    wanted: float
    metric: str
    loss: float | None = None
    losses: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    seconds_left: float | None = None
    learning_rate: float | None = None


Show = Callable[[TrainingProgress], None]
