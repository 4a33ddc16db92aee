"""Branches that a concat joins, and which of them can become part of which.

A branch is *small* if one convolution could be more output channels of a larger one: it has a single
convolution, 1x1 or behind a pool. A branch with a pool goes into the largest kernel that is at least the
pool's window, a 1x1 branch into the smallest larger kernel; the next in size is taken if that one can't.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import relax

from relay_passes.convolution import ConvBlock, Convolution
from relay_passes.graph import Graph
from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason
from relay_passes.pooling import Pool


@dataclass(frozen=True)
class Branch:
    """A row of conv blocks from the block's input to the concat, perhaps behind a pool."""

    place: int
    source: relax.Expr
    pool: Pool | None
    blocks: tuple[ConvBlock, ...]

    @property
    def last(self) -> Convolution:
        """The convolution at its end."""
        return self.blocks[-1].convolution

    @property
    def smallest_side(self) -> int:
        """The smaller side of its last kernel."""
        return min(self.last.kernel)

    @property
    def channels(self) -> int:
        """How many channels it gives the concat."""
        return self.last.weight.shape[0]

    @property
    def is_small(self) -> bool:
        """Whether a larger convolution can absorb it: one convolution, on the input or on a pool of it."""
        return len(self.blocks) == 1 and (self.pool is not None or self.last.kernel == (1, 1))

    @property
    def vars(self) -> tuple[relax.Var, ...]:
        """Its layers, the pool first."""
        pool = () if self.pool is None else (self.pool.var,)
        return pool + tuple(var for block in self.blocks for var in block.vars)

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of the whole row."""
        layers = [block.convolution for block in self.blocks]
        layers += [] if self.pool is None else [self.pool]
        return tuple(math.prod(layer.strides[axis] for layer in layers) for axis in (0, 1))

    @property
    def signature(self) -> list[tuple[str, str, str]]:
        """What its activations do, their constants by channel aside."""
        return [
            (layer.operator, str(layer.call.attrs), "" if layer.by is not None else str(layer.call.args[1:]))
            for layer in self.blocks[-1].activations
        ]


@dataclass(frozen=True)
class Group:
    """A branch that absorbs, and those that it absorbs."""

    absorber: Branch
    absorbed: tuple[Branch, ...]

    @property
    def shrinks(self) -> bool:
        """Whether the reducer in front is halved: when a branch of plain convolutions is taken in."""
        reducers = self.absorber.blocks[:-1]
        is_reducer = bool(reducers) and reducers[-1].convolution.kernel == (1, 1)
        return is_reducer and any(branch.pool is None for branch in self.absorbed)

    @property
    def members(self) -> tuple[Branch, ...]:
        """All its branches, in the order of the concat."""
        return tuple(sorted((self.absorber, *self.absorbed), key=lambda branch: branch.place))

    @property
    def is_exact(self) -> bool:
        """Whether the absorber computes what the branches did."""
        return len(self.absorber.blocks) == 1 and all(branch.pool is None for branch in self.absorbed)

    @property
    def changed(self) -> tuple[str, ...]:
        """The layers that get other weights."""
        reducer = (self.absorber.blocks[-2].convolution.name,) if self.shrinks else ()
        return (*reducer, self.absorber.last.name) if self.absorbed else ()


def branch_at(graph: Graph, operand: relax.Var, place: int) -> Branch | None:
    """The row of conv blocks that ends in `operand`, back to where it forks."""
    blocks: list[ConvBlock] = []
    pool = None
    var: relax.Expr = operand
    while var in graph.value and graph.has_one_user(var):
        block = ConvBlock.ending_at(graph, var)
        if block is None:
            pool = Pool.at(graph, var)
            var = var if pool is None else pool.source
            break
        blocks.insert(0, block)
        var = block.convolution.source
    return Branch(place, var, pool, tuple(blocks)) if blocks else None


def groups_of(branches: Sequence[Branch]) -> list[Group] | Refused:
    """Who absorbs whom."""
    if any(not branch.source.same_as(branches[0].source) for branch in branches):
        return Reason.DIFFERENT_INPUTS, "its branches don't start from one layer"
    small = [branch for branch in branches if branch.is_small]
    others = [branch for branch in branches if not branch.is_small]
    large = [branch for branch in others if branch.pool is None and branch.smallest_side > 1]
    if not small:
        return Reason.NO_ABSORBER, "no branch is small enough to be absorbed"
    if not large:
        return Reason.NO_ABSORBER, "no branch from the same input has a kernel larger than 1x1"
    large.sort(key=lambda branch: (branch.smallest_side, len(branch.blocks)))
    absorbed: dict[int, list[Branch]] = {branch.place: [] for branch in others}
    for branch in small:
        preferred = large if branch.pool is None else large[::-1]
        refused = [_cannot_absorb(absorber, branch) for absorber in preferred]
        if None not in refused:
            return refused[0]
        absorbed[preferred[refused.index(None)].place].append(branch)
    return [Group(branch, tuple(absorbed[branch.place])) for branch in others]


def _cannot_absorb(absorber: Branch, branch: Branch) -> Refused | None:
    last = absorber.last
    convolutions = [block.convolution for block in (*absorber.blocks, *branch.blocks)]
    if any(convolution.groups != 1 for convolution in convolutions):
        return Reason.GROUPED, f"{last.name} or its branch has groups"
    if last.dilation != (1, 1):
        return Reason.DILATED, f"the taps of {last.name} don't lie side by side"
    if branch.pool is not None and any(w > k for w, k in zip(branch.pool.window, last.kernel, strict=True)):
        return Reason.NO_ABSORBER, f"the window of {branch.pool.var.name} is larger than {last.name}'s kernel"
    if absorber.strides != last.strides:
        return Reason.DIFFERENT_STRIDES, f"a layer in front of {last.name} has a stride"
    if branch.strides != last.strides:
        return Reason.DIFFERENT_STRIDES, f"{branch.last.name} and {last.name} have different strides"
    if absorber.signature != branch.signature:
        return Reason.DIFFERENT_ACTIVATIONS, f"behind {branch.last.name} and {last.name}"
    if None in taps_of(absorber, branch):
        return Reason.NO_ABSORBER, f"{branch.last.name} looks outside the window of {last.name}"
    return None


def taps_of(absorber: Branch, branch: Branch) -> tuple[slice | None, slice | None]:
    """For each axis the taps of the absorber's kernel that look where the branch's kernel looks, or None."""
    return tuple(_taps_along(axis, absorber, branch) for axis in (0, 1))


def _taps_along(axis: int, absorber: Branch, branch: Branch) -> slice | None:
    """The branch's tap i stands on the absorber's tap first + i * step."""
    last, own = absorber.last, branch.last
    step, first = own.dilation[axis], -own.padding[axis]
    if branch.pool is not None:
        step *= branch.pool.strides[axis]
        first = first * branch.pool.strides[axis] + (branch.pool.window[axis] - 1) // 2
        first -= branch.pool.padding[axis]
    in_front = [block.convolution for block in absorber.blocks[:-1]]
    first += last.padding[axis]
    first -= sum(each.kernel[axis] // 2 * each.dilation[axis] - each.padding[axis] for each in in_front)
    end = first + (own.kernel[axis] - 1) * step + 1
    return slice(first, end, step) if first >= 0 and end <= last.kernel[axis] else None
