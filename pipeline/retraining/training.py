"""Train a student for one merge step, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.data import Batch
from pipeline.errors import UserError
from pipeline.retraining.objective import (
    LabelLoss,
    Output,
    Values,
    distillation_loss,
    feature_loss,
    mean_squares,
)
from pipeline.retraining.processes import Processes
from pipeline.retraining.recipes import Recipe
from pipeline.retraining.student import Feature
from pipeline.retraining.traced import Traced

MOMENTUM = 0.9
SLOWER = "mend the data, or give a smaller --learning-rate; the steps before this one are kept"
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "std::bad_alloc")


class TrainingFailed(UserError):
    """The loss is not finite any more."""


class NotEnoughMemory(UserError):
    """Not even one sample at a time can be trained on."""


@dataclass(frozen=True)
class Losses:
    """The parts of a batch's loss, weighted; a part that the recipe leaves out is missing."""

    parts: dict[str, float]

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Lesson:
    """What a student is taught by, besides the data.

    Attributes
    ----------
    original : Traced
        Computes the features' values in the original.
    features : sequence of Feature
    kinds : sequence of Output
        Of the outputs.
    label_loss : LabelLoss, optional
        Without it the labels are not used.
    recipe : Recipe
    """

    original: Traced
    features: Sequence[Feature]
    kinds: Sequence[Output]
    label_loss: LabelLoss | None
    recipe: Recipe

    def wanted(self, batch: Batch) -> Values | None:
        """What the original computes for a batch, if the recipe needs it."""
        if not self.recipe.feature and not self.recipe.distillation:
            return None
        with torch.no_grad():
            return self.original(*batch.inputs)

    def sizes(self, wanted: Values | None) -> Tensor:
        """The mean squares of the features' values, then of the outputs before a softmax or sigmoid."""
        if wanted is None:
            return torch.zeros(0)
        return mean_squares([*(wanted.layers[each.original] for each in self.features), *wanted.logits])

    def losses(self, ours: Values, wanted: Values | None, batch: Batch, sizes: Tensor) -> dict[str, Tensor]:
        """The weighted losses of a batch, or of a part of one that has these `sizes` as a whole.

        Raises
        ------
        UserError
            There is nothing to learn from.
        """
        recipe, found = self.recipe, {}
        pairs = [(each.student, each.original) for each in self.features]
        of_features, of_outputs = sizes[: len(pairs)], sizes[len(pairs) :]
        if recipe.feature and pairs:
            values = [(ours.layers[mine], wanted.layers[original]) for mine, original in pairs]
            found["feature"] = recipe.feature * feature_loss(values, of_features)
        if recipe.distillation:
            distillation = distillation_loss(ours, wanted, self.kinds, of_outputs)
            found["distillation"] = recipe.distillation * distillation
        if recipe.label and self.label_loss is not None and batch.labels is not None:
            found["label"] = recipe.label * self.label_loss(ours.logits, batch.labels)
        if not found:
            raise UserError(
                "the recipe learns from labels alone, and the data has none: give labelled data, or take "
                "--recipe fitted"
            )
        return found


class Training:
    """A student in training.

    Parameters
    ----------
    student : Traced
        Trained in place.
    lesson : Lesson
    new : set of str
        Names of the parameters of new layers.
    batches : int
        How many the step may take.
    learning_rate : float
        Of the layers that stay.
    processes : Processes
    say : callable
        Told in a line what the user should know.
    """

    def __init__(
        self,
        student: Traced,
        lesson: Lesson,
        new: set[str],
        batches: int,
        learning_rate: float,
        processes: Processes,
        say: Callable[[str], None],
    ):
        self.student, self.lesson, self.batches = student, lesson, batches
        self.iteration = 0
        self._rate, self._processes, self._say = learning_rate, processes, say
        self._parts = 1
        self._shared = processes.averaged(student)
        recipe = lesson.recipe
        named = dict(student.twin.named_parameters())
        groups = [
            {"params": [each for name, each in named.items() if (name in new) is is_new], "faster": faster}
            for is_new, faster in ((False, 1.0), (True, recipe.new_layers))
        ]
        groups = [group for group in groups if group["params"]]
        self._optimizer = _optimizer(recipe, groups, learning_rate)
        self._parameters = list(named.values())
        self._mean = [each.detach().clone() for each in self._parameters]

    def learn(self, batch: Batch) -> Losses:
        """Train on this process's part of a batch.

        Raises
        ------
        TrainingFailed
            The loss is not finite; the message names the layer where that begins.
        NotEnoughMemory
            Even one sample is too much.
        """
        while True:
            try:
                losses = self._gradients(batch)
                break
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error):
                    raise
            self._take_less(batch)
        self._step()
        return losses

    def averaged_weights(self) -> AveragedWeights:
        """A context in which the student has the running mean of its weights."""
        return AveragedWeights(self._parameters, self._mean if self.lesson.recipe.averaging else None)

    def finish(self) -> None:
        """Give the student the weights that it is judged by."""
        if self.lesson.recipe.averaging:
            _copy(self._mean, self._parameters)

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {
            "iteration": self.iteration,
            "weights": [each.detach() for each in self._parameters],
            "mean": self._mean,
            "optimizer": self._optimizer.state_dict(),
            "parts": self._parts,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.iteration, self._parts = state["iteration"], state["parts"]
        _copy(state["weights"], self._parameters)
        _copy(state["mean"], self._mean)
        self._optimizer.load_state_dict(state["optimizer"])

    @property
    def learning_rate(self) -> float:
        """Of the layers that stay, for the next batch."""
        return self._rate * self.lesson.recipe.schedule(self.iteration / self.batches)

    def _gradients(self, batch: Batch) -> Losses:
        self._optimizer.zero_grad(set_to_none=True)
        parts = _parts(batch, self._parts)
        wanted = [self.lesson.wanted(part) for part in parts]
        samples, sizes = self._over_all(parts, wanted)
        sums: dict[str, float] = {}
        for part, aim in zip(parts, wanted, strict=True):
            ours = self._shared(*part.inputs)
            losses = self.lesson.losses(ours, aim, part, sizes)
            self._check(losses, part)
            (sum(losses.values()) * (len(part) * self._processes.world / samples)).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) * len(part) / len(batch)
        return Losses(sums)

    def _over_all(self, parts: Sequence[Batch], wanted: Sequence[Values | None]) -> tuple[int, Tensor]:
        """How many samples all parts in all processes have, and the mean squares over them."""
        found = zip(parts, wanted, strict=True)
        sums = sum(
            len(part) * torch.cat([torch.ones(1), self.lesson.sizes(aim)]).double() for part, aim in found
        )
        samples, *squares = self._processes.sum(sums)
        return int(samples), torch.stack(squares).div(samples).float() if squares else torch.zeros(0)

    def _step(self) -> None:
        recipe = self.lesson.recipe
        norm = torch.nn.utils.get_total_norm(
            [each.grad for each in self._parameters if each.grad is not None]
        )
        if not torch.isfinite(norm):
            where = self.student.last_gradient_not_finite() or "the whole network"
            raise TrainingFailed(
                f"the gradients are not finite after {self.iteration} batches, from {where} on: {SLOWER}"
            )
        if math.isfinite(recipe.largest_gradient):
            torch.nn.utils.clip_grads_with_norm_(self._parameters, recipe.largest_gradient, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate * group["faster"]
        self._optimizer.step()
        self.iteration += 1
        if recipe.averaging:
            kept = min(recipe.averaging, self.iteration / (self.iteration + 10))
            torch._foreach_lerp_(self._mean, [each.detach() for each in self._parameters], 1 - kept)

    def _take_less(self, batch: Batch) -> None:
        """Go through a batch in twice as many parts, each of half as many samples."""
        self._optimizer.zero_grad(set_to_none=True)
        samples = math.ceil(len(batch) / self._parts)
        if samples == 1 or self._processes.world > 1:
            raise NotEnoughMemory(
                f"not enough memory to train on {samples} samples at a time: give a smaller --batch-size, "
                "close other programs, or use a machine with more memory"
            )
        self._parts *= 2
        self._say(
            f"not enough memory for {samples} samples at a time: going on with {math.ceil(samples / 2)}, "
            "and as many in a batch as before"
        )

    def _check(self, losses: dict[str, Tensor], batch: Batch) -> None:
        bad = next((name for name, loss in losses.items() if not torch.isfinite(loss)), None)
        if bad is None:
            return
        where = self.student.first_not_finite(batch.inputs)
        if where is None and bad == "label":
            where = "all layers are finite, so look at the labels and the loss on them"
        where = where or "all layers are finite"
        raise TrainingFailed(
            f"the {bad} loss is {float(losses[bad])} after {self.iteration} batches; {where}: {SLOWER}"
        )


class AveragedWeights:
    """A context in which parameters have other values."""

    def __init__(self, parameters: list[nn.Parameter], values: list[Tensor] | None):
        self._parameters, self._values = parameters, values

    def __enter__(self) -> None:
        if self._values is not None:
            self._own = [each.detach().clone() for each in self._parameters]
            _copy(self._values, self._parameters)

    def __exit__(self, *_: object) -> None:
        if self._values is not None:
            _copy(self._own, self._parameters)


def _optimizer(recipe: Recipe, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    if recipe.adaptive:
        return torch.optim.AdamW(groups, lr=rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, weight_decay=recipe.weight_decay)


def _parts(batch: Batch, number: int) -> list[Batch]:
    size = math.ceil(len(batch) / number)
    starts = range(0, len(batch), size)
    return [_slice(batch, start, start + size) for start in starts] if number > 1 else [batch]


def _slice(batch: Batch, start: int, stop: int) -> Batch:
    labels = batch.labels
    labels = labels[start:stop] if isinstance(labels, Tensor | list) else labels
    return Batch(tuple(each[start:stop] for each in batch.inputs), labels)


def _copy(values: Sequence[Tensor], to: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for value, tensor in zip(values, to, strict=True):
            tensor.copy_(value)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in OUT_OF_MEMORY)
