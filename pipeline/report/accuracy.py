"""What a report says of a retraining."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.report.model import Accuracy, AccuracyStep, Samples
from pipeline.report.tables import counted

if TYPE_CHECKING:
    from pipeline.retraining.records import DataFacts, Retraining

DECIDED = {
    "fitted": "the same samples decided when a step ended and whether it was kept",
    "paper": "the same samples decided whether a step was kept",
}
"""What the validation data was used for besides, by recipe."""


def accuracy_of(retraining: Retraining) -> Accuracy:
    """Return the accuracy before and after, step by step, and what it was measured on."""
    training, validation = _samples(retraining.training), _samples(retraining.validation)
    return Accuracy(
        measured=True,
        metric=retraining.metric,
        before=retraining.original,
        after=retraining.accuracy,
        drop=retraining.drop,
        training=training,
        validation=validation,
        steps=tuple(
            AccuracyStep(**step.model_dump(include=set(AccuracyStep.model_fields)))
            for step in retraining.steps
        ),
        note=f"measured on {counted(validation, 'validation')}; {DECIDED[retraining.settings.recipe]}; "
        f"trained on {counted(training, 'training')}",
    )


def _samples(facts: DataFacts) -> Samples:
    return Samples(**facts.model_dump(include=set(Samples.model_fields)))
