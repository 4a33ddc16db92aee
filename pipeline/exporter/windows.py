"""Convolutions and pools in ONNX.

TVM counts the last window of a pool with `ceil_mode` as torch does: it has to start inside the input or the
padding in front of it. ONNX's inference, onnxruntime and other runtimes disagree there, so no pool is written
with `ceil_mode`: what its last window reaches beyond the edge (the overhang) becomes padding, which no
maximum and no mean counts. A mean that counts the declared padding, but not the overhang, cannot be said so:
it becomes a convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.exporter.expression import Layer, Node, Tensor, Value, Weight, integers, node, number
from pipeline.twin.operators import ints

SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def require_layout(layout: str, wanted: str) -> None:
    """Refuse any layout but the wanted one.

    Raises
    ------
    NotImplementedError
    """
    if layout != wanted:
        raise NotImplementedError(f"layout {layout} instead of {wanted}")


def convolution(layer: Layer) -> Node:
    """Conv, with the bias if one is added right behind it."""
    rank = len(layer.shape) - 2
    require_layout(layer.attrs.data_layout, "NC" + SPATIAL[rank])
    require_layout(layer.attrs.kernel_layout, "OI" + SPATIAL[rank])
    return _convolution("Conv", layer, rank)


def transposed_convolution(layer: Layer) -> Node:
    """ConvTranspose, with the bias if one is added right behind it."""
    rank = len(layer.shape) - 2
    require_layout(layer.attrs.data_layout, "NC" + SPATIAL[rank])
    require_layout(layer.attrs.kernel_layout, "IO" + SPATIAL[rank])
    extra = ints(layer.attrs.output_padding)
    return _convolution("ConvTranspose", layer, rank, output_padding=extra if any(extra) else None)


def _convolution(operator: str, layer: Layer, rank: int, **more: Any) -> Node:
    x, weight, *bias = layer.args
    if layer.dtype != x.dtype:
        raise NotImplementedError(f"{layer.dtype} from {x.dtype}")
    return node(
        operator,
        x,
        weight,
        *bias,
        kernel_shape=weight.shape[-rank:],
        strides=ints(layer.attrs.strides),
        pads=ints(layer.attrs.padding),
        dilations=ints(layer.attrs.dilation),
        group=int(layer.attrs.groups),
        **more,
    )


def max_pool(layer: Layer) -> Node:
    """MaxPool; padding never wins."""
    (x,) = layer.args
    pool = _Pool(layer)
    dilations = pool.dilations if max(pool.dilations) > 1 else None
    after = pool.after_with_overhang(x.shape[2:])
    if pool.fits_in_window(pool.before, after):
        return node("MaxPool", x, **pool.geometry, pads=(*pool.before, *after), dilations=dilations)
    return node("MaxPool", padded(x, pool.before, after, -math.inf), **pool.geometry, dilations=dilations)


def average_pool(layer: Layer) -> Node:
    """AveragePool where ONNX's divisor is TVM's; else a depthwise convolution, divided by what counts."""
    (x,) = layer.args
    pool = _Pool(layer)
    sizes = x.shape[2:]
    after = pool.after_with_overhang(sizes)
    counts_padding = bool(layer.attrs.count_include_pad) and any((*pool.before, *pool.after))
    if not counts_padding and pool.is_global(sizes, layer.shape[2:]):
        return node("GlobalAveragePool", x)
    is_plain = max(pool.dilations) == 1 and pool.fits_in_window(pool.before, after)
    if is_plain and not any((*pool.before, *after)):
        return node("AveragePool", x, **pool.geometry)
    if is_plain and (not counts_padding or after == pool.after):
        pads = (*pool.before, *after)
        return node("AveragePool", x, **pool.geometry, pads=pads, count_include_pad=int(counts_padding))
    return _mean_by_convolution(x, pool, after, counts_padding)


def adaptive_average_pool(layer: Layer) -> Value:
    """An ordinary mean where the windows are equal; else a product with the windows' shares along each axis.

    Place i of n reads the elements from `floor(i size / n)` up to, not including, `ceil((i + 1) size / n)`.
    """
    (x,) = layer.args
    sizes, wanted = x.shape[2:], layer.shape[2:]
    require_layout(layer.attrs.layout, "NC" + SPATIAL[len(sizes)])
    if wanted == sizes:
        return x
    if set(wanted) == {1}:
        return node("GlobalAveragePool", x)
    if not any(size % n for size, n in zip(sizes, wanted, strict=True)):
        window = tuple(size // n for size, n in zip(sizes, wanted, strict=True))
        return node("AveragePool", x, kernel_shape=window, strides=window)
    if len(sizes) > 2:
        raise NotImplementedError("windows of unequal size in three dimensions")
    y = node("MatMul", x, Weight(_shares(sizes[-1], wanted[-1], x.dtype).T, "columns"))
    return y if len(sizes) == 1 else node("MatMul", Weight(_shares(sizes[0], wanted[0], x.dtype), "rows"), y)


def padded(
    x: Tensor, before: Sequence[int], after: Sequence[int], value: float, mode: str = "constant"
) -> Value:
    """`x` (a tensor or what is computed from one) with its last axes padded."""
    if not any((*before, *after)):
        return x
    kept = (0,) * (len(x.shape) - len(before))
    pads = integers((*kept, *before, *kept, *after), "pads")
    fill = (number(value, x.dtype, "padding"),) if mode == "constant" else ()
    return node("Pad", x, pads, *fill, mode=mode)


class _Pool:
    """The windows of a pool, by axis."""

    def __init__(self, layer: Layer):
        attrs = layer.attrs
        self.rank = len(layer.shape) - 2
        require_layout(attrs.layout, "NC" + SPATIAL[self.rank])
        self.window, self.strides, self.dilations = map(
            ints, (attrs.pool_size, attrs.strides, attrs.dilation)
        )
        padding = ints(attrs.padding)
        self.before, self.after = padding[: self.rank], padding[self.rank :]
        self._is_ceil = bool(attrs.ceil_mode)

    @property
    def geometry(self) -> dict[str, tuple[int, ...]]:
        return {"kernel_shape": self.window, "strides": self.strides}

    def fits_in_window(self, before: Sequence[int], after: Sequence[int]) -> bool:
        """Whether runtimes take a padding: narrower than the window."""
        return all(max(b, a) < w for b, a, w in zip(before, after, self.window, strict=True))

    def is_global(self, sizes: Sequence[int], places: Sequence[int]) -> bool:
        """Whether there is one window, which covers everything."""
        covers = (w >= size + b for w, size, b in zip(self.window, sizes, self.before, strict=True))
        return set(places) == {1} and max(self.dilations) == 1 and all(covers)

    def counted(self, axis: int, size: int, after: int, counts_padding: bool) -> np.ndarray:
        """Along an axis, the share of each window that lies where elements count."""
        before, dilation, window = self.before[axis], self.dilations[axis], self.window[axis]
        first, end = (-before, size + self.after[axis]) if counts_padding else (0, size)
        last_start = size + after - dilation * (window - 1) - 1
        starts = np.arange(-before, last_start + 1, self.strides[axis])
        places = starts[:, None] + dilation * np.arange(window)
        return ((places >= first) & (places < end)).mean(1)

    def after_with_overhang(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """The padding behind each axis that lets the last window end at its edge."""
        return tuple(
            after + (self._overhang(axis, size) if self._is_ceil else 0)
            for axis, (after, size) in enumerate(zip(self.after, sizes, strict=True))
        )

    def _overhang(self, axis: int, size: int) -> int:
        padded_size = size + self.before[axis] + self.after[axis]
        reach = self.dilations[axis] * (self.window[axis] - 1) + 1
        last = math.ceil((padded_size - reach) / self.strides[axis]) * self.strides[axis]
        if last >= size + self.before[axis]:
            last -= self.strides[axis]
        return max(0, last + reach - padded_size)


def _mean_by_convolution(x: Tensor, pool: _Pool, after: tuple[int, ...], counts_padding: bool) -> Node:
    window = np.full((x.shape[1], 1, *pool.window), 1 / math.prod(pool.window), dtype=x.dtype)
    total = node(
        "Conv",
        x,
        Weight(window, "window"),
        **pool.geometry,
        pads=(*pool.before, *after),
        dilations=pool.dilations,
        group=x.shape[1],
    )
    counted = np.ones(())
    for axis, size in enumerate(x.shape[2:]):
        counted = np.multiply.outer(counted, pool.counted(axis, size, after[axis], counts_padding))
    if not counted.all():
        raise NotImplementedError("a window wholly in the padding")
    if (counted == 1).all():
        return total
    return node("Mul", total, Weight((1 / counted).astype(x.dtype), "correction"))


def _shares(size: int, places: int, dtype: str) -> np.ndarray:
    """Which share each of `size` elements has in each of `places` means."""
    shares = np.zeros((places, size), dtype=dtype)
    for place in range(places):
        first, end = place * size // places, math.ceil((place + 1) * size / places)
        shares[place, first:end] = 1 / (end - first)
    return shares
