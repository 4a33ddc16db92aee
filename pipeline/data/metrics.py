"""How good outputs are: one number for each sample, higher is better.

`top-k`: 100 where the label is among the k largest scores of the first output, 0 elsewhere. `agreement`: 100
where the largest score is that of the original network. The mean over all samples is a percentage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.data.user_code import find_function, is_reference, reason_of
from pipeline.errors import UserError

Outputs = tuple[Tensor, ...]
Compute = Callable[[Outputs, Any, Outputs | None], Tensor]


@dataclass(frozen=True)
class Metric:
    """A measure whose value on a data set is the mean over its samples.

    Parameters
    ----------
    name : str
    labels_needed : bool
    compute : callable
        From outputs, labels and the original network's outputs to (B,) numbers.
    """

    name: str
    labels_needed: bool
    compute: Compute

    def scores(self, outputs: Outputs, labels: Any, reference: Outputs | None = None) -> Tensor:
        """Return one number for each sample.

        Parameters
        ----------
        outputs : tuple of torch.Tensor
            Each (B, ...).
        labels : torch.Tensor or object, optional
            What a batch holds.
        reference : tuple of torch.Tensor, optional
            What the original network computes from the same batch.

        Returns
        -------
        torch.Tensor
            (B,), float32.

        Raises
        ------
        UserError
            The labels are not class indices, or the user's function fails or returns something else.
        """
        return self.compute(outputs, labels, reference)


def find_metric(name: str) -> Metric:
    """Return the metric of a name: `top-1`, `top-5`, `agreement`, or `module:function`.

    A user's function is called with the outputs (a tensor where the network has one output, a tuple
    otherwise) and the labels (None without), and returns one number for each sample.

    Raises
    ------
    UserError
        There is no such metric or function.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if is_reference(name):
        return Metric(name, labels_needed=False, compute=_by_user(name, find_function(name)))
    raise UserError(f"there is no metric {name}: choose {', '.join(BUILT_IN)}, or give module:function")


def _top(count: int, outputs: Outputs, labels: Any, reference: Outputs | None) -> Tensor:
    scores = _class_scores(outputs)
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (len(scores),):
        raise UserError(
            f"top-{count} needs one class index for each sample: give labelled data, or another metric"
        )
    best = scores.topk(min(count, scores.shape[1])).indices
    return _percent((best == labels[:, None]).any(1))


def _agreement(outputs: Outputs, labels: Any, reference: Outputs | None) -> Tensor:
    if reference is None:
        raise ValueError("agreement needs the original network's outputs")
    return _percent(_class_scores(outputs).argmax(1) == _class_scores(reference).argmax(1))


def _class_scores(outputs: Outputs) -> Tensor:
    return outputs[0].reshape(len(outputs[0]), -1)


def _percent(right: Tensor) -> Tensor:
    return right.float() * 100


def _by_user(name: str, function: Callable[..., Any]) -> Compute:
    def compute(outputs: Outputs, labels: Any, reference: Outputs | None) -> Tensor:
        samples = len(outputs[0])
        try:
            scores = torch.as_tensor(function(outputs[0] if len(outputs) == 1 else outputs, labels))
        except Exception as error:
            raise UserError(f"the metric {name} failed: {reason_of(error)}") from error
        if scores.numel() != samples or scores.shape[:1] != (samples,):
            raise UserError(
                f"the metric {name} returned the shape {tuple(scores.shape)} for {samples} samples: "
                "return one number for each"
            )
        scores = scores.detach().reshape(samples).float()
        if not scores.isfinite().all():
            raise UserError(f"the metric {name} returned a number that is not finite")
        return scores

    return compute


BUILT_IN = {
    "top-1": Metric("top-1", labels_needed=True, compute=partial(_top, 1)),
    "top-5": Metric("top-5", labels_needed=True, compute=partial(_top, 5)),
    "agreement": Metric("agreement", labels_needed=False, compute=_agreement),
}
