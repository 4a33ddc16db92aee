"""How to retrain: the recipe and its numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.record import Name, Record


class Settings(Record):
    """What decides the outcome of a retraining besides the network and the data.

    Attributes
    ----------
    recipe : {"fitted", "paper"}
        `fitted`: new layers start from a least-squares fit to the old ones' outputs, and learn from the
        original network beside the labels; a step ends as soon as the accuracy is back. `paper`: new layers
        start at random and learn from the labels alone, at ten times the learning rate of the others.
    max_drop : float
        Points of the metric that the network may be below the original. Training ends when it has lost half
        as much or less.
    epochs : float
        Passes over the training data that each step may take.
    finish_epochs : float
        Passes over the training data after the last step, as long as too much is lost.
    keep_all : bool
        Keep steps that lost more than `max_drop`, too; otherwise they are undone.
    mirror : bool
        Mirror half of the training samples left to right.
    batch_size : int
    learning_rate : float, optional
        Of the layers that stay; by default the recipe's own.
    groups : tuple of tuple of str
        Names of merges (with `*`) that are retrained together.
    evaluate_every : int, optional
        Batches between two looks at the validation data; by default a tenth of what a step may take.
    seed : int
    """

    recipe: Literal["fitted", "paper"] = "fitted"
    max_drop: NonNegativeFloat = 0.4
    epochs: PositiveFloat = 2.0
    finish_epochs: NonNegativeFloat = 0.0
    keep_all: bool = False
    mirror: bool = False
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat | None = None
    groups: tuple[tuple[Name, ...], ...] = ()
    evaluate_every: PositiveInt | None = None
    seed: NonNegativeInt = 0
