"""The recipes: where new layers start, what they learn from, and how fast.

`paper` is Li, Wang, Kong and Chuah's (DeepRebirth, 2018): Xavier's first weights, labels alone, SGD whose
rate falls by ten in steps, new layers ten times as fast. `fitted` starts from a least-squares fit, learns
from the original beside the labels (Hinton, Vinyals and Dean, Distilling the knowledge in a neural network,
2015; Romero et al., FitNets, 2015), with cosine-shaped rates, and takes the running mean of the weights
(Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992), so that it may end at any
look at the accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

Schedule = Callable[[float], float]
"""From the part of the step that is done, 0 to 1, to the part of the learning rate."""


@dataclass(frozen=True)
class Recipe:
    """Numbers of a recipe.

    Attributes
    ----------
    fits : bool
        Whether new layers start from a least-squares fit; otherwise they start at random (Xavier).
    feature, distillation, label : float
        Weights of the three losses.
    adaptive : bool
        Adam (Kingma and Ba, 2015) instead of stochastic gradient descent with momentum 0.9.
    learning_rate : float
        Of the layers that stay.
    new_layers : float
        How many times faster the new layers learn.
    schedule : Schedule
    averaging : float
        The part of the running mean of the weights that a batch keeps; 0 takes the weights themselves.
    weight_decay : float
    largest_gradient : float
        Gradients are scaled down to this norm.
    """

    fits: bool
    feature: float
    distillation: float
    label: float
    adaptive: bool
    learning_rate: float
    new_layers: float
    schedule: Schedule
    averaging: float
    weight_decay: float
    largest_gradient: float


def cosine(done: float) -> float:
    """A tenth of the step to warm up, then half a cosine (Loshchilov and Hutter, SGDR, 2017)."""
    return min(1.0, 10 * done + 0.01) * (1 + math.cos(math.pi * done)) / 2


def in_steps(done: float) -> float:
    """A tenth of the rate after each third."""
    return 0.1 ** int(3 * min(done, 0.999))


FITTED = Recipe(
    fits=True,
    feature=1.0,
    distillation=1.0,
    label=1.0,
    adaptive=True,
    learning_rate=0.001,
    new_layers=1.0,
    schedule=cosine,
    averaging=0.99,
    weight_decay=0.0,
    largest_gradient=1.0,
)
PAPER = Recipe(
    fits=False,
    feature=0.0,
    distillation=0.0,
    label=1.0,
    adaptive=False,
    learning_rate=0.001,
    new_layers=10.0,
    schedule=in_steps,
    averaging=0.0,
    weight_decay=0.0002,
    largest_gradient=math.inf,
)
RECIPES = {"fitted": FITTED, "paper": PAPER}
"""Of the merge steps."""
FINISHES = {
    "fitted": replace(FITTED, feature=0.0, label=0.5, learning_rate=0.002, weight_decay=0.02),
    "paper": PAPER,
}
"""Of the training after them: what the layers compute no longer has to be what the original's do."""
