"""Weights stored as int8 numbers and float32 scales, a quarter of their size in float32.

A tensor `NAME` is stored as two in its place, its type being part of the first one's name:

    NAME.float32    int8 numbers, in the tensor's own shape
    NAME.scales     float32, with the same axes, each as long as the tensor's or 1

Their product, computed in float32 and then rounded to the tensor's type, is the tensor, bit for bit. Others
are stored as they are.

Numbers and scales are found from the values alone, as `relay_passes.round_weights` made them: in each channel
the largest magnitude is 127 scales. So it does not matter how compiling has split and reordered the axes. The
axes that the scale varies along are tried, those with the fewest scales first.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import prod

import numpy as np

LARGEST = 127
TYPES = ("float32", "float16")
SCALES = "scales"


def pack(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what to store in place of weights."""
    stored: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        found = factors(weight)
        if found is None:
            stored[name] = weight
        else:
            stored[f"{name}.{weight.dtype}"], stored[f"{name}.{SCALES}"] = found
    return stored


def unpack(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights from what is stored, in the order of their names."""
    weights = {}
    for key, array in stored.items():
        name, _, kind = key.partition(".")
        if kind != SCALES:
            weights[name] = (array * stored[f"{name}.{SCALES}"]).astype(kind) if kind else array
    return {name: weights[name] for name in sorted(weights)}


def factors(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Take a tensor apart.

    Returns
    -------
    tuple of numpy.ndarray or None
        int8 numbers and float32 scales whose product is the tensor, bit for bit; None if there are none, or
        if they take no less than the tensor.
    """
    if str(weight.dtype) not in TYPES or not weight.size or not np.isfinite(weight).all():
        return None
    for others in _axes_within_a_channel(weight):
        if _numbers(_first_channel(weight, others), others) is None:
            continue
        numbers = _numbers(weight, others)
        scales = None if numbers is None else _scales(weight, numbers, others)
        if scales is not None and _same_bits((numbers * scales).astype(weight.dtype), weight):
            return numbers, scales
    return None


def _axes_within_a_channel(weight: np.ndarray) -> list[tuple[int, ...]]:
    """Sets of axes along which the scale may stay the same, that with the fewest scales first."""
    axes = [axis for axis in range(weight.ndim) if weight.shape[axis] > 1]
    counts = {
        others: prod(weight.shape[axis] for axis in axes if axis not in others)
        for length in range(len(axes) + 1)
        for others in combinations(axes, length)
    }
    saving = [others for others, count in counts.items() if weight.size + 4 * count < weight.nbytes]
    return sorted(saving, key=counts.__getitem__)


def _first_channel(weight: np.ndarray, others: tuple[int, ...]) -> np.ndarray:
    return weight[tuple(slice(None) if axis in others else slice(1) for axis in range(weight.ndim))]


def _numbers(weight: np.ndarray, others: tuple[int, ...]) -> np.ndarray | None:
    """The integers nearest to the weights over their scale; None if one is no integer but for rounding."""
    single = weight.astype("float32")
    scale = np.abs(single).max(others, keepdims=True) / np.float32(LARGEST)
    exact = np.divide(single, scale, out=np.zeros_like(single), where=scale > 0)
    numbers = np.rint(exact).clip(-LARGEST, LARGEST)
    return numbers.astype("int8") if np.abs(exact - numbers).max() < 0.25 else None


def _scales(weight: np.ndarray, numbers: np.ndarray, others: tuple[int, ...]) -> np.ndarray:
    shape = [1 if axis in others else length for axis, length in enumerate(weight.shape)]
    scales = np.zeros(shape, "float32")
    for place in np.ndindex(*shape):
        channel = tuple(slice(None) if axis in others else index for axis, index in enumerate(place))
        scales[place] = _scale(weight[channel], numbers[channel])
    return scales


def _scale(weights: np.ndarray, numbers: np.ndarray) -> float:
    """The scale from whose products all weights of a channel can have been rounded.

    It is between bounds half way to each weight's neighbours. The middle is taken, since the float32 next to
    it is within them, if any is.
    """
    used = numbers != 0
    if not used.any():
        return 0.0
    magnitude, times = np.abs(weights[used]), np.abs(numbers[used]).astype("float64")
    below, above = (
        (magnitude.astype("float64") + np.nextafter(magnitude, magnitude.dtype.type(towards))) / 2 / times
        for towards in (0, np.inf)
    )
    return float(below.max() + above.min()) / 2


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    bits = f"uint{8 * first.itemsize}"
    return np.array_equal(first.view(bits), second.view(bits))
