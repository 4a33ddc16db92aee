"""Pools, and the geometry of a convolution that takes a pool's stride.

The convolution has stride s, window k (dilated) and padding p; the pool has stride t, window w and padding
q. Output j of the pool looks at convolution outputs j*t - q ... j*t - q + w - 1. The new convolution computes
one of them, j*t + c with c as near to the middle of the window as the padding allows, with the stride s*t:
its first tap reads input j*s*t + c*s - p, so its padding in front is p - c*s. Behind, it is whatever gives
the pool's output size.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from relay_passes.convolution import Convolution
from relay_passes.graph import Graph, operator_of, shape_of

POOLS = ("nn.max_pool2d", "nn.avg_pool2d")


@dataclass(frozen=True)
class Pool:
    """A max or average pool in NCHW. `window` is dilated; `padding` is top, left, bottom, right."""

    var: relax.Var
    source: relax.Expr
    window: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> Pool | None:
        """The pool that computes `var`, or None."""
        call = graph.call(var, *POOLS)
        if call is None or (call.attrs.layout, call.attrs.out_layout) != ("NCHW", "NCHW"):
            return None
        sizes = zip(call.attrs.pool_size, call.attrs.dilation, strict=True)
        return cls(
            var,
            call.args[0],
            tuple((int(size) - 1) * int(dilation) + 1 for size, dilation in sizes),
            tuple(int(stride) for stride in call.attrs.strides),
            tuple(int(width) for width in call.attrs.padding),
        )

    @property
    def is_global(self) -> bool:
        """Whether the window covers the whole input."""
        return all(w >= n for w, n in zip(self.window, shape_of(self.source)[2:], strict=True))


def is_global(graph: Graph, var: relax.Expr) -> bool:
    """Whether `var` pools its whole input (N, C, H, W), however that is spelt."""
    pool = Pool.at(graph, var)
    if pool is not None:
        return pool.is_global
    call = graph.call(var, "mean", "max", "nn.adaptive_avg_pool2d", "nn.adaptive_max_pool2d")
    if call is None or call.args[0].ty.ndim != 4:
        return False
    if operator_of(call) in ("mean", "max"):
        return call.attrs.axis is not None and {int(axis) % 4 for axis in call.attrs.axis} == {2, 3}
    return shape_of(call)[2:] == (1, 1)


def with_stride_of(convolution: Convolution, pool: Pool) -> dict[str, tuple[int, ...]] | None:
    """Strides and padding of the convolution that gives the pool's output size, or None if there are none."""
    source = shape_of(convolution.source)[2:]
    padding = [
        _padding(_Axis(convolution, pool, axis), size=source[axis], output=shape_of(pool.var)[2 + axis])
        for axis in (0, 1)
    ]
    if None in padding:
        return None
    (top, bottom), (left, right) = padding
    strides = tuple(s * t for s, t in zip(convolution.strides, pool.strides, strict=True))
    return {"strides": strides, "padding": (top, left, bottom, right)}


class _Axis:
    """The numbers of one axis, named as in the module's docstring."""

    def __init__(self, convolution: Convolution, pool: Pool, axis: int):
        self.s, self.k, self.p = (field[axis] for field in _fields(convolution))
        self.t, self.w, self.q = (field[axis] for field in _fields(pool))


def _fields(layer: Convolution | Pool) -> tuple[tuple[int, ...], ...]:
    return layer.strides, layer.window, layer.padding


def _padding(axis: _Axis, *, size: int, output: int) -> tuple[int, int] | None:
    """Padding before and behind that gives `output` places from `size`, or None."""
    middle = (axis.w - 1) / 2 - axis.q
    step = axis.s * axis.t
    for c in sorted(range(-axis.q, axis.w - axis.q), key=lambda c: (abs(c - middle), c)):
        before = axis.p - axis.s * c
        behind = (output - 1) * step + axis.k - size - before
        if 0 <= before < axis.k and -step < behind < axis.k:
            return before, max(behind, 0)
    return None
