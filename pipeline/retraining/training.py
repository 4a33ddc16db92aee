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
from pipeline.retraining.objective import LabelLoss, Output, Values, distillation_loss, feature_loss
from pipeline.retraining.processes import Processes
from pipeline.retraining.recipes import Recipe
from pipeline.retraining.student import Feature
from pipeline.retraining.traced import Traced

MOMENTUM = 0.9
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

    def losses(self, ours: Values, batch: Batch) -> dict[str, Tensor]:
        """The weighted losses of a batch."""
        recipe, found = self.recipe, {}
        if recipe.feature or recipe.distillation:
            with torch.no_grad():
                wanted = self.original(*batch.inputs)
            pairs = [(ours.layers[each.student], wanted.layers[each.original]) for each in self.features]
            found["feature"] = recipe.feature * feature_loss(pairs)
            found["distillation"] = recipe.distillation * distillation_loss(ours, wanted, self.kinds)
        if recipe.label and self.label_loss is not None and batch.labels is not None:
            found["label"] = recipe.label * self.label_loss(ours.logits, batch.labels)
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
        self._optimizer = torch.optim.SGD(
            [group for group in groups if group["params"]],
            lr=learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
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
        sums: dict[str, float] = {}
        for part in _parts(batch, self._parts):
            ours = self._shared(*part.inputs)
            losses = self.lesson.losses(ours, part)
            share = len(part) / len(batch)
            total = sum(losses.values()) * share
            self._check(total, part)
            total.backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) * share
        return Losses(sums)

    def _step(self) -> None:
        recipe = self.lesson.recipe
        if math.isfinite(recipe.largest_gradient):
            torch.nn.utils.clip_grad_norm_(self._parameters, recipe.largest_gradient)
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

    def _check(self, loss: Tensor, batch: Batch) -> None:
        if not torch.isfinite(loss):
            raise TrainingFailed(
                f"the loss is {float(loss)} after {self.iteration} batches; {self.student.first_not_finite(batch.inputs)}: "
                "give a smaller --learning-rate; the steps before this one are kept"
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
