"""Make an average pool behind a linear convolution part of it. Exact.

    conv -> bias -> avg_pool      becomes      conv' -> bias

The convolution computes y[u] = b + sum over i of W[i] x[u*s + i*d - p], the pool the mean of the w values
y[j*t + m*e - q]. Together (one axis; both axes and all groups alike):

    z[j] = b + 1/w * sum over i and m of W[i] x[j*s*t + i*d + m*e*s - (p + s*q)]

That is a convolution with the stride s*t and the padding p + s*q. Its kernel is the old one convolved with
the pool's box; its taps stand g = gcd(d, e*s) apart, and its window is that of W and s times the pool's more.

It holds as long as every y that the mean counts is what the convolution computes there. In its own padding
the pool counts y = 0: right only if the convolution has no bias and would read nothing but zeros there, as a
1x1 convolution does. A mean that doesn't count the padding, or a last window that reaches over the edge,
divides by less than w. A kernel that makes the network slower is not made at all.

A 1x1 convolution changes places with the pool instead, which takes t times fewer multiply-adds along each
axis and no larger kernel:

    1/n * sum over m of (b + W x[m]) = b + W (1/n * sum over m of x[m])

It holds for any border without a bias; with one, if the mean doesn't count the padding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution
from relay_passes.graph import Emitter, Graph, shape_of
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.pooling import Pool


@tvm.transform.module_pass(opt_level=0, name="MergeAveragePool")
class MergeAveragePool:
    """Make the average-pool merges of a plan."""

    def __init__(self, plan: MergePlan):
        self.plan = plan

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Merge each row of average pools into the convolution that the plan names."""
        return make_planned(module, find_average_pools, self.plan)


def find_average_pools(graph: Graph) -> Findings:
    """Rows of average pools behind a linear convolution; refusals for the first that can't be merged."""
    return Findings.sorted_out(found for var in graph.layers for found in _found(graph, var))


def _found(graph: Graph, start: relax.Var) -> Iterator[Merge | Refusal]:
    block = _linear_block(graph, start)
    if block is None:
        return
    if _is_pointwise(block.convolution):
        yield from _exchanged(graph, block)
        return
    merged, pools = block, []
    for pool in _average_pools(graph, block.vars[-1]):
        change = _merged(merged, pool, bool(graph.value[pool.var].attrs.count_include_pad))
        if not isinstance(change, dict):
            yield refusal(pool.var.name, Kind.STREAMLINE, (start.name, pool.var.name), change)
            break
        merged = merged.with_convolution(**change)
        pools.append(pool.var)
    if pools:
        names = tuple(pool.name for pool in pools)
        yield Merge(
            name=start.name,
            kind=Kind.STREAMLINE,
            layers=(*names, start.name),
            removed=names,
            touches=frozenset({*block.vars, *pools}),
            replacements={pools[-1]: lambda emit: merged.emit(emit, emit(merged.convolution.source))},
        )


def _is_pointwise(convolution: Convolution) -> bool:
    """Whether each place of its result reads that place of its input alone."""
    return (convolution.kernel, convolution.strides) == ((1, 1), (1, 1)) and not any(convolution.padding)


def _exchanged(graph: Graph, block: ConvBlock) -> Iterator[Merge | Refusal]:
    """The pools in front of the convolution, as far as they go there."""
    start, pools = block.convolution.var, []
    for pool in _average_pools(graph, block.vars[-1]):
        refused = _cannot_go_in_front(graph, block, pool)
        if refused is not None:
            yield refusal(pool.var.name, Kind.STREAMLINE, (start.name, pool.var.name), refused)
            break
        pools.append(pool.var)
    if pools:
        yield Merge(
            name=start.name,
            kind=Kind.STREAMLINE,
            layers=(*(pool.name for pool in pools), start.name),
            removed=(),
            touches=frozenset({*block.vars, *pools}),
            replacements={pools[-1]: lambda emit: _emit_exchanged(emit, graph, block, pools)},
        )


def _cannot_go_in_front(graph: Graph, block: ConvBlock, pool: Pool) -> Refused | None:
    axes = [_Axis.of(block.convolution, pool, axis) for axis in (0, 1)]
    counts_padding = bool(graph.value[pool.var].attrs.count_include_pad)
    if block.has_bias and counts_padding and any(axis.reach != (0, 0) for axis in axes):
        return Reason.ZERO_PADDING, f"the mean of {pool.var.name} is another one at the border"
    if math.prod(axis.outputs for axis in axes) >= math.prod(axis.convolved for axis in axes):
        return Reason.SAVES_NOTHING, f"{pool.var.name} leaves {block.convolution.name} as many places"
    return None


def _emit_exchanged(emit: Emitter, graph: Graph, block: ConvBlock, pools: Sequence[relax.Var]) -> relax.Expr:
    source = emit(block.convolution.source)
    for pool in pools:
        call = graph.value[pool]
        source = emit.layer(pool.name, relax.Call(call.op, [source], call.attrs))
    return block.emit(emit, source)


def _linear_block(graph: Graph, start: relax.Var) -> ConvBlock | None:
    """The convolution at `start` with its bias, if it has one."""
    convolution = Convolution.at(graph, start)
    if convolution is None:
        return None
    reader = ChannelLayer.at(graph, graph.users[start][0]) if graph.has_one_user(start) else None
    has_bias = reader is not None and reader.operator == "add"
    return ConvBlock(convolution, (reader,) if has_bias else ())


def _average_pools(graph: Graph, var: relax.Var) -> Iterator[Pool]:
    """The average pools behind `var`, one after the other, as long as nothing else reads what they read."""
    while graph.has_one_user(var):
        var = graph.users[var][0]
        pool = Pool.at(graph, var)
        if pool is None or pool.is_global or graph.call(var, "nn.avg_pool2d") is None:
            return
        yield pool


def _merged(block: ConvBlock, pool: Pool, counts_padding: bool) -> dict[str, object] | Refused:
    """What changes in the block's convolution, or why it can't take the pool."""
    convolution, axes = block.convolution, [_Axis.of(block.convolution, pool, axis) for axis in (0, 1)]
    if any(axis.reach != (0, 0) for axis in axes):
        if block.has_bias or not counts_padding or any(axis.has_partial_window for axis in axes):
            return (
                Reason.ZERO_PADDING,
                f"the mean of {pool.var.name} is another one at the border",
            )
        if any(axis.reads_input_there for axis in axes):
            return Reason.ZERO_PADDING, f"{convolution.name} isn't zero in the padding of {pool.var.name}"
    before = math.prod(axis.k * axis.convolved for axis in axes)
    after = math.prod(axis.taps * axis.outputs for axis in axes)
    if after > before:
        times = after / before
        return (
            Reason.SAVES_NOTHING,
            f"{convolution.name} would take {times:.3g} times its multiply-adds",
        )
    (top, bottom), (left, right) = (axis.padding for axis in axes)
    weight = functools.reduce(lambda kernel, axis: axis.boxed(kernel), axes, convolution.weight)
    return {
        "weight": weight.astype(convolution.weight.dtype),
        "strides": tuple(axis.s * axis.t for axis in axes),
        "padding": (top, left, bottom, right),
        "dilation": tuple(axis.g for axis in axes),
    }


@dataclass(frozen=True)
class _Axis:
    """The numbers of one axis (2 or 3 of the kernel), named as in the module's docstring.

    The input has the size `n`, the convolution `convolved` places, the pool `outputs` and the padding q
    before and behind.
    """

    place: int
    n: int
    convolved: int
    outputs: int
    s: int
    k: int
    d: int
    p: int
    t: int
    w: int
    e: int
    q: tuple[int, int]

    @classmethod
    def of(cls, convolution: Convolution, pool: Pool, axis: int) -> _Axis:
        return cls(
            place=2 + axis,
            n=shape_of(convolution.source)[2 + axis],
            convolved=shape_of(pool.source)[2 + axis],
            outputs=shape_of(pool.var)[2 + axis],
            s=convolution.strides[axis],
            k=convolution.kernel[axis],
            d=convolution.dilation[axis],
            p=convolution.padding[axis],
            t=pool.strides[axis],
            w=pool.size[axis],
            e=pool.dilation[axis],
            q=(pool.padding[axis], pool.padding[2 + axis]),
        )

    @property
    def reach(self) -> tuple[int, int]:
        """How far the first window reaches over the convolution's output, and the last one."""
        before = self.q[0]
        end = (self.outputs - 1) * self.t + (self.w - 1) * self.e + 1 - before
        return before, max(end - self.convolved, 0)

    @property
    def has_partial_window(self) -> bool:
        """Whether the last window reaches over the padding too."""
        return self.reach[1] > self.q[1]

    @property
    def reads_input_there(self) -> bool:
        """Whether the convolution would read something in the pool's padding."""
        before, behind = self.reach
        ends_in = -self.s + (self.k - 1) * self.d - self.p >= 0
        starts_in = self.convolved * self.s - self.p < self.n
        return (before > 0 and ends_in) or (behind > 0 and starts_in)

    @property
    def g(self) -> int:
        """The dilation of the new kernel."""
        return math.gcd(self.d if self.k > 1 else 0, self.e * self.s if self.w > 1 else 0) or 1

    @property
    def window(self) -> int:
        """The input that one output reads."""
        return (self.k - 1) * self.d + (self.w - 1) * self.e * self.s + 1

    @property
    def taps(self) -> int:
        """The size of the new kernel."""
        return (self.window - 1) // self.g + 1

    @property
    def padding(self) -> tuple[int, int]:
        """The new padding, behind no more than the last output reads."""
        before = self.p + self.s * self.q[0]
        return before, max((self.outputs - 1) * self.s * self.t + self.window - self.n - before, 0)

    def boxed(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel convolved with the pool's box along this axis."""
        kernel = np.moveaxis(kernel, self.place, -1)
        boxed = np.zeros((*kernel.shape[:-1], self.taps))
        own = np.arange(self.k) * self.d
        for place in range(self.w):
            boxed[..., (own + place * self.e * self.s) // self.g] += kernel / self.w
        return np.moveaxis(boxed, -1, self.place)
