"""Make small branches of a block extra output channels of a larger one (DeepRebirth, branch merging).

    concat(conv1x1(x), conv3x3(reduce3(x)), conv5x5(reduce5(x)), conv1x1(max_pool(x)))
    becomes    concat(conv3x3'(reduce3'(x)), conv5x5'(reduce5(x)))

The branch with a pool goes into the largest convolution whose kernel is at least the pool's window, the 1x1
branch into the smallest larger kernel; there the reducer in front shrinks to half, as in the paper (3a: 96 to
48). The reborn layers write their channels where the old concat put them.

Reborn weights start from the best guess that needs no data. A shrunk reducer keeps the channels that carry
most (norm of the reducer's row times norm of what reads it). A branch kernel K on the block's input x becomes
K pinv(R), R being the centre taps of the layers in front of the absorber multiplied together: the
least-squares answer if those layers were linear. It stands where the branch looked, mostly the centre of the
larger kernel. Without a reducer R is the identity, and a 1x1 branch without a pool is absorbed exactly.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax

from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution
from relay_passes.graph import Emitter, Graph
from relay_passes.merge import Findings, Merge, Refused, make_planned
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal, common_name
from relay_passes.pooling import Pool

RIDGE = 1e-10
"""Added to the diagonal, as a part of its mean, so that a reducer without full rank has an inverse too."""


@tvm.transform.module_pass(opt_level=0, name="MergeBranches")
class MergeBranches:
    """Make the branch merges of a plan."""

    def __init__(self, plan: MergePlan):
        self.plan = plan

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Merge the branches of each block that the plan names."""
        return make_planned(module, find_branches, self.plan)


def find_branches(graph: Graph) -> Findings:
    """Blocks of branches that a concat joins; refusals for the others."""
    blocks = [block for var in graph.layers if (block := _Block.at(graph, var)) is not None]
    count = Counter(block.common_name for block in blocks)
    merges, refusals = [], []
    for block in blocks:
        own_name = (block.concat.name,) if count[block.common_name] > 1 or not block.common_name else ()
        found = block.merge("/".join((*filter(None, [block.common_name]), *own_name)))
        (merges if isinstance(found, Merge) else refusals).append(found)
    return Findings(tuple(merges), tuple(refusals))


@dataclass(frozen=True)
class _Branch:
    """A row of conv blocks from the block's input to the concat, perhaps behind a pool."""

    place: int
    source: relax.Expr
    pool: Pool | None
    blocks: tuple[ConvBlock, ...]

    @property
    def last(self) -> Convolution:
        return self.blocks[-1].convolution

    @property
    def smallest_side(self) -> int:
        return min(self.last.kernel)

    @property
    def channels(self) -> int:
        return self.last.weight.shape[0]

    @property
    def is_small(self) -> bool:
        """Whether a larger convolution can absorb it: one convolution, on the input or on a pool of it."""
        return len(self.blocks) == 1 and (self.pool is not None or self.last.kernel == (1, 1))

    @property
    def vars(self) -> tuple[relax.Var, ...]:
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
class _Group:
    """A branch that absorbs, and those that it absorbs."""

    absorber: _Branch
    absorbed: tuple[_Branch, ...]

    @property
    def shrinks(self) -> bool:
        """Whether the reducer in front is halved: when a branch of plain convolutions is taken in."""
        reducers = self.absorber.blocks[:-1]
        is_reducer = bool(reducers) and reducers[-1].convolution.kernel == (1, 1)
        return is_reducer and any(branch.pool is None for branch in self.absorbed)

    @property
    def members(self) -> tuple[_Branch, ...]:
        """All its branches, in the order of the concat."""
        return tuple(sorted((self.absorber, *self.absorbed), key=lambda branch: branch.place))

    @property
    def reborn(self) -> tuple[str, ...]:
        """The layers that have to be trained: none if the absorber takes the branches in exactly."""
        front = self.absorber.blocks[:-1]
        if not front and all(branch.pool is None for branch in self.absorbed):
            return ()
        reducer = (front[-1].convolution.name,) if self.shrinks else ()
        return (*reducer, self.absorber.last.name) if self.absorbed else ()


@dataclass(frozen=True)
class _Block:
    """A concat of channels and its branches, None for those that are no row of conv blocks."""

    concat: relax.Var
    operands: tuple[relax.Var, ...]
    branches: tuple[_Branch | None, ...]

    @classmethod
    def at(cls, graph: Graph, concat: relax.Var) -> _Block | None:
        operands = graph.joined_channels(concat) or ()
        if len(set(operands)) < 2:
            return None
        branches = tuple(_branch(graph, operand, place) for place, operand in enumerate(operands))
        return cls(concat, operands, branches)

    @property
    def common_name(self) -> str:
        """What the names of its convolutions have in common; nothing if a branch has none."""
        return "" if None in self.branches else common_name(branch.last.name for branch in self.branches)

    def merge(self, name: str) -> Merge | Refusal:
        if None in self.branches:
            stranger = self.operands[self.branches.index(None)].name
            detail = f"{stranger} is not a convolution's own branch"
            return _refusal(name, (stranger, self.concat.name), (Reason.NO_WEIGHTS, detail))
        layers = (*(var.name for branch in self.branches for var in branch.vars), self.concat.name)
        groups = _groups(self.branches)
        if not isinstance(groups, list):
            return _refusal(name, layers, groups)
        absorbed = [branch for group in groups for branch in group.absorbed]
        return Merge(
            name=name,
            kind=Kind.BRANCH,
            layers=layers,
            removed=tuple(var.name for branch in absorbed for var in branch.vars),
            touches=frozenset({self.concat, *(var for branch in self.branches for var in branch.vars)}),
            replacements={self.concat: lambda emit: _emit(emit, self.concat.name, groups)},
            reborn=tuple(layer for group in groups for layer in group.reborn),
        )


def _refusal(name: str, layers: tuple[str, ...], refused: Refused) -> Refusal:
    reason, detail = refused
    return Refusal(name=name, kind=Kind.BRANCH, layers=layers, reason=reason, detail=detail)


def _branch(graph: Graph, operand: relax.Var, place: int) -> _Branch | None:
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
    return _Branch(place, var, pool, tuple(blocks)) if blocks else None


def _groups(branches: Sequence[_Branch]) -> list[_Group] | Refused:
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
    absorbed: dict[int, list[_Branch]] = {branch.place: [] for branch in others}
    for branch in small:
        absorber = large[0] if branch.pool is None else large[-1]
        refused = _cannot_absorb(absorber, branch)
        if refused is not None:
            return refused
        absorbed[absorber.place].append(branch)
    return [_Group(branch, tuple(absorbed[branch.place])) for branch in others]


def _cannot_absorb(absorber: _Branch, branch: _Branch) -> Refused | None:
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
    if None in _taps(absorber, branch):
        return Reason.NO_ABSORBER, f"{branch.last.name} looks outside the window of {last.name}"
    return None


def _taps(absorber: _Branch, branch: _Branch) -> tuple[slice | None, slice | None]:
    """For each axis the taps of the absorber's kernel that look where the branch's kernel looks, or None."""
    return tuple(_taps_along(axis, absorber, branch) for axis in (0, 1))


def _taps_along(axis: int, absorber: _Branch, branch: _Branch) -> slice | None:
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


def _emit(emit: Emitter, name: str, groups: list[_Group]) -> relax.Expr:
    pieces: dict[int, relax.Expr] = {}
    for group in groups:
        var = emit(group.absorber.source)
        for block in _merged_blocks(group):
            var = block.emit(emit, var)
        pieces |= _pieces(emit, group, var)
    in_order = [pieces[place] for place in sorted(pieces)]
    return in_order[0] if len(in_order) == 1 else emit.layer(name, relax.op.concat(in_order, axis=1))


def _pieces(emit: Emitter, group: _Group, var: relax.Var) -> dict[int, relax.Expr]:
    """The group's result at its places in the concat, cut up if other branches stand in between."""
    places = [branch.place for branch in group.members]
    if places == list(range(places[0], places[-1] + 1)):
        return {places[0]: var}
    ends = np.cumsum([branch.channels for branch in group.members])[:-1]
    parts = emit.layer(f"{var.name}.split", relax.op.split(var, [int(end) for end in ends], axis=1))
    return {place: emit.layer(f"{var.name}.{i}", parts[i]) for i, place in enumerate(places)}


def _merged_blocks(group: _Group) -> list[ConvBlock]:
    """The absorber's blocks with the absorbed branches inside."""
    *front, last = group.absorber.blocks
    if not group.absorbed:
        return [*front, last]
    if group.shrinks:
        kept = _strongest_half(front[-1].convolution.weight, last.convolution.weight)
        front[-1] = _select_outputs(front[-1], kept)
        last = last.with_convolution(weight=last.convolution.weight[:, kept])
    members = [
        (last, last.convolution.weight)
        if branch is group.absorber
        else (branch.blocks[-1], _placed(group.absorber, branch, front))
        for branch in group.members
    ]
    return [*front, _stacked(last, members)]


def _strongest_half(reducer: np.ndarray, reader: np.ndarray) -> np.ndarray:
    """Indices, in order, of the half of the reducer's channels that carry most."""
    strength = np.linalg.norm(reducer.reshape(len(reducer), -1), axis=1)
    strength = strength * np.sqrt((reader.astype("float64") ** 2).sum(axis=(0, 2, 3)))
    return np.sort(np.argsort(-strength, kind="stable")[: -(-len(reducer) // 2)])


def _select_outputs(block: ConvBlock, kept: np.ndarray) -> ConvBlock:
    tail = tuple(
        layer if layer.by is None else replace(layer, by=np.take(layer.by, kept, layer.channel_axis))
        for layer in block.tail
    )
    return replace(block.with_convolution(weight=block.convolution.weight[kept]), tail=tail)


def _placed(absorber: _Branch, branch: _Branch, front: list[ConvBlock]) -> np.ndarray:
    """The branch's kernel behind the layers in front, inside a kernel of the absorber's size."""
    on_reduced = _on_reduced(branch.last.weight, front)
    placed = np.zeros((*on_reduced.shape[:2], *absorber.last.kernel), dtype=branch.last.weight.dtype)
    placed[:, :, *_taps(absorber, branch)] = on_reduced
    return placed


def _on_reduced(kernel: np.ndarray, front: list[ConvBlock]) -> np.ndarray:
    """K pinv(R), a kernel that reads what the layers in front make of the block's input."""
    if not front:
        return kernel
    reduce = functools.reduce(lambda product, tap: tap @ product, map(_centre_tap, front))
    gram = reduce @ reduce.T
    gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram) or 1.0)
    inverse = np.linalg.solve(gram, reduce)
    return np.moveaxis(np.tensordot(kernel.astype("float64"), inverse, axes=(1, 1)), -1, 1)


def _centre_tap(block: ConvBlock) -> np.ndarray:
    """The linear map (output channels, input channels) of the middle tap."""
    weight = block.convolution.weight
    return weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2].astype("float64")


def _stacked(last: ConvBlock, members: list[tuple[ConvBlock, np.ndarray]]) -> ConvBlock:
    """One block whose output channels are those of the members, one after the other."""
    weight = np.concatenate([kernel for _, kernel in members])
    blocks = [block for block, _ in members]
    tail = [
        replace(layer, by=None if layer.by is None else _joined([block.activations[i] for block in blocks]))
        for i, layer in enumerate(last.activations)
    ]
    if any(block.has_bias for block in blocks):
        tail.insert(0, _joined_bias(blocks))
    return replace(last.with_convolution(weight=weight), tail=tuple(tail))


def _joined(layers: list[ChannelLayer]) -> np.ndarray:
    return np.concatenate([layer.by for layer in layers], layers[0].channel_axis)


def _joined_bias(blocks: list[ConvBlock]) -> ChannelLayer:
    template = next(block.tail[0] for block in blocks if block.has_bias)
    biases = [
        np.zeros((1, len(block.convolution.weight), 1, 1), dtype=template.by.dtype)
        if block.bias is None
        else block.bias
        for block in blocks
    ]
    return replace(template, by=np.concatenate(biases, axis=1))
