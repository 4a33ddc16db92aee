"""Pools, and the geometry of a convolution that takes a pool's stride.

The convolution has stride s, kernel k, dilation d and padding p; the pool has stride t, window w and padding
q. Output j of the pool looks at convolution outputs j*t - q ... j*t - q + w - 1. The new convolution computes
one of them, j*t + c with c as near to the middle of the window as the padding allows, with the stride s*t:
its first tap reads input j*s*t + c*s - p, so its padding in front is p - c*s. Behind, it is whatever gives
the pool's output size. Where no padding does, that in front may be negative, which crops the input: AlexNet's
11x11/4 without padding, then a pool 3x3/2, starts at input 4.

Of s*t inputs in a row the old pair reads those at c*s + i*d (modulo s*t) for every place c of the window and
every tap i, the new convolution those of one c. If that leaves inputs unread, its kernel is too small for the
pool, or its taps stand too far apart. A kernel of at least the pool's window may leave some out: it is what
the paper asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax

from relay_passes.convolution import Convolution
from relay_passes.graph import Graph, operator_of, shape_of
from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason

POOLS = ("nn.max_pool2d", "nn.avg_pool2d")


@dataclass(frozen=True)
class Pool:
    """A max or average pool in NCHW. `size` counts taps; `padding` is top, left, bottom, right."""

    var: relax.Var
    source: relax.Expr
    size: tuple[int, int]
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> Pool | None:
        """The pool that computes `var`, or None."""
        call = graph.call(var, *POOLS)
        if call is None or (call.attrs.layout, call.attrs.out_layout) != ("NCHW", "NCHW"):
            return None
        numbers = (call.attrs.pool_size, call.attrs.strides, call.attrs.padding, call.attrs.dilation)
        return cls(var, call.args[0], *(tuple(int(number) for number in row) for row in numbers))

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the input that one output reads: the dilated size."""
        return tuple((w - 1) * e + 1 for w, e in zip(self.size, self.dilation, strict=True))

    @property
    def is_global(self) -> bool:
        """Whether the window covers the whole input."""
        return all(w >= n for w, n in zip(self.window, shape_of(self.source)[2:], strict=True))


def is_global(graph: Graph, var: relax.Var) -> bool:
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
    """Strides and padding of the convolution that gives the pool's output size, or None if there are none.

    A negative padding crops. `why_no_stride` says why there are none.
    """
    axes = _axes(convolution, pool)
    padding = [axis.padding for axis in axes]
    if None in padding or any(axis.unread for axis in axes):
        return None
    (top, bottom), (left, right) = padding
    return {"strides": tuple(axis.step for axis in axes), "padding": (top, left, bottom, right)}


def why_no_stride(convolution: Convolution, pool: Pool) -> Refused:
    """Why `with_stride_of` finds no convolution."""
    for axis in _axes(convolution, pool):
        if axis.unread and axis.d > 1:
            return Reason.DILATED, f"with the pool's stride the taps of {convolution.name} would skip inputs"
        if axis.unread:
            kernel, window = _by(convolution.kernel), _by(pool.window)
            detail = f"{convolution.name} is {kernel}, the window {window}: inputs would stay unread"
            return Reason.KERNEL_TOO_SMALL, detail
    wanted = _by(shape_of(pool.var)[2:])
    detail = f"no padding of {convolution.name} with the product of the strides gives {wanted}"
    return Reason.SHAPE_WOULD_CHANGE, detail


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes)


def _axes(convolution: Convolution, pool: Pool) -> tuple[_Axis, _Axis]:
    def along(axis: int) -> _Axis:
        taps = convolution.kernel[axis]
        return _Axis(
            n=shape_of(convolution.source)[2 + axis],
            outputs=shape_of(pool.var)[2 + axis],
            s=convolution.strides[axis],
            k=taps,
            d=convolution.dilation[axis] if taps > 1 else 1,
            p=convolution.padding[axis],
            t=pool.strides[axis],
            w=pool.size[axis],
            e=pool.dilation[axis],
            q=pool.padding[axis],
        )

    return along(0), along(1)


@dataclass(frozen=True)
class _Axis:
    """The numbers of one axis, named as in the module's docstring.

    `n` is the input's size; the pool has `outputs` and the dilation e.
    """

    n: int
    outputs: int
    s: int
    k: int
    d: int
    p: int
    t: int
    w: int
    e: int
    q: int

    @property
    def step(self) -> int:
        """The stride of the new convolution."""
        return self.s * self.t

    @property
    def padding(self) -> tuple[int, int] | None:
        """Padding before and behind that gives the outputs wanted; cropping in front if it must be."""
        places = [place * self.e - self.q for place in range(self.w)]
        middle = (places[0] + places[-1]) / 2
        by_distance = sorted(places, key=lambda c: (self.p < self.s * c, abs(c - middle), c))
        return next((found for c in by_distance if (found := self._padding_from(c)) is not None), None)

    def _padding_from(self, c: int) -> tuple[int, int] | None:
        """The padding that starts at place c of the first window."""
        window = (self.k - 1) * self.d + 1
        before = self.p - self.s * c
        behind = (self.outputs - 1) * self.step + window - self.n - before
        return (before, max(behind, 0)) if before < window and -self.step < behind < window else None

    @property
    def unread(self) -> bool:
        """Whether the new convolution leaves inputs unread, other than a kernel of the pool's size may."""
        if self.d == 1 and self.k >= (self.w - 1) * self.e + 1:
            return False
        taps = [i * self.d for i in range(self.k)]
        before = {(place * self.e * self.s + tap) % self.step for place in range(self.w) for tap in taps}
        return len(before) > len({tap % self.step for tap in taps})
