"""Retrain merged networks: `retrain`, its settings, and what it leaves."""

from pipeline.retraining.progress import Show, TrainingProgress
from pipeline.retraining.records import DataFacts, Retraining, StepResult
from pipeline.retraining.result import Retrained, read_result
from pipeline.retraining.retrain import retrain
from pipeline.retraining.settings import Settings
from pipeline.retraining.training import TrainingFailed

__all__ = [
    "DataFacts",
    "Retrained",
    "Retraining",
    "Settings",
    "Show",
    "StepResult",
    "TrainingFailed",
    "TrainingProgress",
    "read_result",
    "retrain",
]
