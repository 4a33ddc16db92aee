"""First weights for reborn convolutions: the least-squares fit to what the original computes.

For patches x of the student's own input and the original's values y, the weights W (bias included)
minimise the sum of |W x - z|², z being whatever is nearest to W x among the values that the activation
takes to y: y itself inside its bounds, and where y lies on a bound, anything beyond. That is convex in W,
and no less than the sum of |clip(W x) - y|².

It is minimised in rounds, by majorisation (de Leeuw, Applications of convex analysis to multidimensional
scaling, 1977): with z for the present W, the next W' minimises

    sum |W' x - z|² + ridge |W' - W|²

a linear system whose matrix, the second moments of x, is factored once. The ridge holds a round near the one
before, so weights that the patches say nothing of stay those that the merge gave, and the others end where
they would without it. A round goes on in the direction of the one before (Nesterov), output by output, until
that leads upwards (O'Donoghue and Candès, Adaptive restart for accelerated gradient schemes, 2015): twenty of
them come as far as sixty others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.retraining.fit_target import FitTarget
from pipeline.twin import Twin

ROUNDS = 20
RIDGE = 1e-4
"""As a part of the mean second moment of the inputs."""
LARGEST = 48e6
"""Numbers that the matrix of patches may hold."""
MOST_PATCHES = 40_000


@dataclass(frozen=True)
class Fitted:
    """How well a convolution was fitted: the parts of the target's variance left before and after."""

    layer: str
    before: float
    after: float


def fit(
    target: FitTarget,
    twin: Twin,
    inputs: Sequence[Tensor],
    values: Sequence[Mapping[str, Tensor]],
    seed: int = 0,
) -> Fitted:
    """Fit one convolution of the twin in place.

    Parameters
    ----------
    target : FitTarget
    twin : Twin
        The student.
    inputs : sequence of Tensor
        What the convolution reads, (N, C, H, W), batch by batch.
    values : sequence of mapping of str to Tensor
        What the layers shall compute, by the names of the target's pieces, batch by batch.
    seed : int
        For the choice of patches.

    Returns
    -------
    Fitted
        On the patches; the weights stay what they were where the fit is no better than they are.
    """
    convolution = target.convolution
    weight = _parameter(twin, convolution.name, "weight")
    bias = None if target.bias is None else _parameter(twin, target.bias, "bias")
    outputs, groups = len(weight), convolution.groups
    columns = weight[0].numel() + (bias is not None)
    rows = int(min(MOST_PATCHES, LARGEST / (columns * groups)))
    patches, wanted = _sampled(target, inputs, values, rows, seed)
    before = after = total = 0.0
    share = outputs // groups
    for group in range(groups):
        mine = slice(group * share, (group + 1) * share)
        x, y = patches[:, group], wanted[:, mine]
        first = weight[mine].reshape(share, -1)
        if bias is not None:
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
            first = torch.cat([first, bias.reshape(-1, 1)[mine]], 1)
        first = first.detach()
        solved = _solve(x, y, first, target.low, target.high)
        errors = _error(x, y, first, target), _error(x, y, solved, target)
        solved = solved if errors[1] < errors[0] else first
        before += errors[0]
        after += min(errors)
        total += float((y - y.mean(0)).square().sum())
        with torch.no_grad():
            weight[mine] = (solved if bias is None else solved[:, :-1]).reshape(weight[mine].shape)
            if bias is not None:
                bias.view(-1)[mine] = solved[:, -1]
    return Fitted(convolution.name, before / (total or 1.0), after / (total or 1.0))


def _parameter(twin: Twin, layer: str, role: str) -> torch.nn.Parameter:
    names = [name for name in twin.layers[layer] if f":{role}" in name]
    return twin.get_parameter(names[0])


def _solve(x: Tensor, y: Tensor, first: Tensor, low: float, high: float) -> Tensor:
    """Weights (outputs, columns) for patches (rows, columns) and values (rows, outputs)."""
    moments = (x.T @ x).double()
    moments.diagonal().add_(RIDGE * float(moments.diagonal().mean()) + 1e-12)
    factor = torch.linalg.cholesky(moments)
    weights = ahead = first
    in_a_row = torch.zeros(len(first), 1)
    for _ in range(ROUNDS):
        made = x @ ahead.T
        aim = torch.where(y <= low, made.clamp(max=low), torch.where(y >= high, made.clamp(min=high), y))
        downhill = (x.T @ (aim - made)).double()
        found = ahead + torch.cholesky_solve(downhill, factor).T.to(weights.dtype)
        moved = found - weights
        goes_on = (downhill.T * moved).sum(1, keepdim=True) > 0
        in_a_row = torch.where(goes_on, in_a_row + 1, 0)
        weights, ahead = found, found + in_a_row / (in_a_row + 3) * moved
    return weights


def _error(x: Tensor, y: Tensor, weights: Tensor, target: FitTarget) -> float:
    return float(((x @ weights.T).clamp(target.low, target.high) - y).square().sum())


def _sampled(
    target: FitTarget, inputs: Sequence[Tensor], values: Sequence[Mapping[str, Tensor]], rows: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Patches (rows, groups, columns) and what shall come of them (rows, outputs), at random places."""
    generator = torch.Generator().manual_seed(seed)
    share = max(1, rows // len(inputs))
    patches, wanted = [], []
    for x, y in zip(inputs, values, strict=True):
        windows = _windows(target, x)
        count, _, height, width = windows.shape[:4]
        places = torch.randperm(count * height * width, generator=generator)[:share]
        image, place = places // (height * width), places % (height * width)
        row, column = place // width, place % width
        patches.append(windows[image, :, row, column].reshape(len(places), target.convolution.groups, -1))
        wanted.append(_aims(target, y)[image, :, row, column])
    return torch.cat(patches), torch.cat(wanted)


def _windows(target: FitTarget, x: Tensor) -> Tensor:
    """What each output reads: (N, C, H, W, KH, KW), without copying the patches."""
    convolution = target.convolution
    top, left, bottom, right = convolution.padding
    x = F.pad(x, (left, right, top, bottom))
    for axis, size, stride in zip((2, 3), convolution.window, convolution.strides, strict=True):
        x = x.unfold(axis, size, stride)
    down, across = convolution.dilation
    return x[..., ::down, ::across]


def _aims(target: FitTarget, values: Mapping[str, Tensor]) -> Tensor:
    pieces = sorted(target.pieces, key=lambda piece: piece.start)
    return torch.cat([values[p.layer][:, p.at : p.at + p.stop - p.start] for p in pieces], 1)
