"""What a student learns from: the original's features and outputs, and the labels.

Feature: the mean square of the difference, as a part of the mean square of the original's value.
Distillation, by what the output is:

- classes (behind a softmax, or scores with class labels): T² KL(softmax(t / T) | softmax(s / T)) for logits t
  of the original and s of the student (Hinton, Vinyals and Dean, 2015);
- probabilities (behind a sigmoid): the cross entropy of s to sigmoid(t), less its smallest value;
- any other: as a feature.

Label: the cross entropy for classes; for probabilities the binary one, class indices standing for one 1
among zeros; for other outputs as a feature, with labels of the output's shape. Without labels it is left
out.

All of them are means over samples, so that a batch may be gone through in parts, if the mean squares are
those of the whole batch. (With labels that are values they are those of the part.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.user_code import find_function, reason_of
from pipeline.errors import UserError

Outputs = tuple[Tensor, ...]
Output = Literal["classes", "probabilities", "values"]
TEMPERATURE = 2.0
LabelLoss = Callable[[tuple[Tensor, ...], Any], Tensor]


@dataclass(frozen=True)
class Values:
    """What a network computes for a batch: outputs, the same before a softmax or sigmoid, and some layers."""

    outputs: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
    layers: Mapping[str, Tensor]


def mean_squares(values: Sequence[Tensor]) -> Tensor:
    """One number for each tensor."""
    return torch.stack([each.float().square().mean() for each in values]) if values else torch.zeros(0)


def feature_loss(pairs: Sequence[tuple[Tensor, Tensor]], sizes: Tensor | None = None) -> Tensor:
    """Sum over pairs of a student's and the original's values, each pair of one shape.

    `sizes` are the mean squares of the original's values, by default those of the values given.
    """
    sizes = mean_squares([wanted for _, wanted in pairs]) if sizes is None else sizes
    losses = (_difference(ours, wanted, size) for (ours, wanted), size in zip(pairs, sizes, strict=True))
    return sum(losses, start=torch.zeros(()))


def distillation_loss(
    ours: Values, wanted: Values, kinds: Sequence[Output], sizes: Tensor | None = None
) -> Tensor:
    """Sum over the outputs; `sizes` are the mean squares of the original's, by default of those given."""
    sizes = mean_squares(wanted.logits) if sizes is None else sizes
    rows = zip(kinds, ours.logits, wanted.logits, sizes, strict=True)
    return sum((_DISTILLATION[kind](s, t, size) for kind, s, t, size in rows), start=torch.zeros(()))


def label_loss(kinds: Sequence[Output]) -> LabelLoss:
    """The loss on labels for a network with one output; it takes the logits.

    Raises
    ------
    UserError
        When it is called with labels that do not fit the output.
    """
    compute = _LABELS[kinds[0]]

    def loss(logits: tuple[Tensor, ...], labels: Any) -> Tensor:
        try:
            if len(logits) == 1 and isinstance(labels, Tensor):
                return compute(logits[0].reshape(len(logits[0]), -1), labels)
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(f"the labels do not fit the network's output ({error}): {ADVICE}") from None
        raise UserError(f"the labels do not fit a network of {len(logits)} outputs: {ADVICE}")

    return loss


def loss_of_user(reference: str) -> LabelLoss:
    """The loss that a user's function computes from logits (a tensor, or a tuple of several) and labels.

    Raises
    ------
    UserError
        There is no such function; or, when it is called, it fails or returns no single number.
    """
    function = find_function(reference)

    def loss(logits: tuple[Tensor, ...], labels: Any) -> Tensor:
        try:
            value = function(logits[0] if len(logits) == 1 else logits, labels)
        except Exception as error:
            raise UserError(f"the loss {reference} failed: {reason_of(error)}") from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise UserError(f"the loss {reference} returned no tensor of one number: return the batch's mean")
        return value.reshape(())

    return loss


ADVICE = "give a loss of yours with --loss module:function, or data without labels"


def _difference(ours: Tensor, wanted: Tensor, size: Tensor) -> Tensor:
    return F.mse_loss(ours, wanted) / size.clamp(min=1e-12)


def _divergence(ours: Tensor, wanted: Tensor, _size: Tensor) -> Tensor:
    ours, wanted = (
        F.log_softmax(scores.reshape(len(scores), -1) / TEMPERATURE, dim=1) for scores in (ours, wanted)
    )
    return TEMPERATURE**2 * F.kl_div(ours, wanted, log_target=True, reduction="batchmean")


def _binary_divergence(ours: Tensor, wanted: Tensor, _size: Tensor) -> Tensor:
    aim = wanted.sigmoid()
    least = F.binary_cross_entropy_with_logits(wanted, aim, reduction="sum")
    return (F.binary_cross_entropy_with_logits(ours, aim, reduction="sum") - least) / len(ours)


def _binary_label(scores: Tensor, labels: Tensor) -> Tensor:
    if labels.dtype == torch.int64 and labels.dim() == 1:
        labels = F.one_hot(labels, scores.shape[1])
    aim = labels.reshape(scores.shape).to(scores.dtype)
    return F.binary_cross_entropy_with_logits(scores, aim, reduction="sum") / len(scores)


def _value_label(values: Tensor, labels: Tensor) -> Tensor:
    aim = labels.reshape(values.shape).to(values.dtype)
    return _difference(values, aim, aim.square().mean())


_DISTILLATION: dict[Output, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "classes": _divergence,
    "probabilities": _binary_divergence,
    "values": _difference,
}
_LABELS: dict[Output, Callable[[Tensor, Tensor], Tensor]] = {
    "classes": F.cross_entropy,
    "probabilities": _binary_label,
    "values": _value_label,
}
