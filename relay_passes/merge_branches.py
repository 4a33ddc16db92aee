"""Make small branches of an Inception block extra output channels of a larger one (DeepRebirth, branch merging).

    concat(conv1x1(x), conv3x3(reduce3(x)), conv5x5(reduce5(x)), conv1x1(max_pool(x)))
    becomes    concat(conv3x3'(reduce3'(x)), conv5x5'(reduce5(x)))

The branch with a pool goes into the largest convolution whose kernel is at least the pool's window, the 1x1
branch into the smallest larger kernel; there the reducer in front shrinks to half, as in the paper (3a: 96 to
48). The reborn layers write their channels where the old concat put them.

Reborn weights start from the best guess that needs no data. A shrunk reducer keeps the channels that carry
most (norm of the reducer's row times norm of what reads it). A branch kernel K on the block's input x becomes
K pinv(R), R being the centre taps of the layers in front of the absorber multiplied together: the least-squares
answer if those layers were linear. It stands where the branch looked, mostly the centre of the larger kernel.
Without a reducer R is the identity, and a 1x1 branch without a pool is absorbed exactly.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax

from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution
from relay_passes.graph import Emitter, Graph, shape_of, variables
from relay_passes.merge import Findings, Merge, merge_by_name
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal, common_name
from relay_passes.pooling import Pool

Refused = tuple[Reason, str]


@tvm.transform.module_pass(opt_level=0, name="MergeBranches")
class MergeBranches:
    """Make the branch merges of a plan."""

    def __init__(self, plan: MergePlan):
        self.names = plan.names(Kind.BRANCH)

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Merge the branches of each block that the plan names."""
        return merge_by_name(module, find_branches, self.names)


def find_branches(graph: Graph) -> Findings:
    """Blocks of branches that a concat joins; refusals for the others."""
    merges, refusals = [], []
    for var in graph.layers:
        if graph.call(var, "concat") is None:
            continue
        found = _block(graph, var)
        if isinstance(found, Merge):
            merges.append(found)
        elif found is not None:
            name, layers, reason, detail = found
            refusals.append(Refusal(name=name, kind=Kind.BRANCH, layers=layers, reason=reason, detail=detail))
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
    def kernel(self) -> int:
        return min(self.last.weight.shape[2:])

    @property
    def channels(self) -> int:
        return self.last.weight.shape[0]

    @property
    def is_small(self) -> bool:
        """Whether a larger convolution can absorb it: one convolution, on the input or on a pool of it."""
        return len(self.blocks) == 1 and (self.pool is not None or self.kernel == 1)

    @property
    def layer_names(self) -> tuple[str, ...]:
        pool = () if self.pool is None else (self.pool.var.name,)
        return pool + tuple(name for block in self.blocks for name in block.layer_names)


@dataclass(frozen=True)
class _Group:
    """A branch that absorbs, and those that it absorbs."""

    absorber: _Branch
    absorbed: tuple[_Branch, ...]

    @property
    def shrinks(self) -> bool:
        """Whether the reducer in front is halved: when a branch of plain convolutions is taken in."""
        reducers = self.absorber.blocks[:-1]
        is_reducer = bool(reducers) and reducers[-1].convolution.weight.shape[2:] == (1, 1)
        return is_reducer and any(branch.pool is None for branch in self.absorbed)

    @property
    def members(self) -> tuple[_Branch, ...]:
        """All its branches, in the order of the concat."""
        return tuple(sorted((self.absorber, *self.absorbed), key=lambda branch: branch.place))

    @property
    def is_exact(self) -> bool:
        return not self.absorbed or (
            len(self.absorber.blocks) == 1 and all(branch.pool is None for branch in self.absorbed)
        )


def _block(graph: Graph, concat: relax.Var) -> Merge | tuple[str, tuple[str, ...], Reason, str] | None:
    """The merge of the branches that `concat` joins, a refusal, or None if it joins nothing of the kind."""
    operands = variables(graph.value[concat])
    if len(set(operands)) < 2 or int(graph.value[concat].attrs.axis) != 1:
        return None
    branches = [_branch(graph, operand, place) for place, operand in enumerate(operands)]
    known = [branch for branch in branches if branch is not None]
    if len(known) < len(branches):
        bad = operands[branches.index(None)].name
        return concat.name, (concat.name, bad), Reason.NO_WEIGHTS, f"{bad} is not a convolution's own branch"
    name = common_name(branch.last.name for branch in known) or concat.name
    layers = (*(layer for branch in known for layer in branch.layer_names), concat.name)
    groups = _groups(known)
    if not isinstance(groups, list):
        return name, layers, *groups
    return _merge(name, layers, concat, known, groups)


def _branch(graph: Graph, operand: relax.Var, place: int) -> _Branch | None:
    """The row of conv blocks that ends in `operand`, back to where it forks."""
    blocks: list[ConvBlock] = []
    var: relax.Expr = operand
    pool = None
    while var in graph.value and graph.has_one_user(var):
        block = ConvBlock.ending_at(graph, var)
        if block is None:
            pool = Pool.at(graph, var)
            var = var if pool is None else pool.source
            break
        blocks.insert(0, block)
        var = block.convolution.source
    return _Branch(place, var, pool, tuple(blocks)) if blocks else None


def _groups(branches: list[_Branch]) -> list[_Group] | Refused:
    """Who absorbs whom."""
    if any(not branch.source.same_as(branches[0].source) for branch in branches):
        return Reason.DIFFERENT_INPUTS, "its branches don't start from one layer"
    small = [branch for branch in branches if branch.is_small]
    others = [branch for branch in branches if not branch.is_small]
    large = sorted((b for b in others if b.kernel > 1), key=lambda b: (b.kernel, len(b.blocks)))
    if not small:
        return Reason.NO_ABSORBER, "no branch is small enough to be absorbed"
    if not large:
        return Reason.NO_ABSORBER, "no branch has a kernel larger than 1x1"
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
    if absorber.pool is not None:
        return Reason.NO_ABSORBER, f"{last.name} stands behind a pool itself"
    if branch.pool is not None and any(
        w > k for w, k in zip(branch.pool.window, last.weight.shape[2:], strict=True)
    ):
        return Reason.NO_ABSORBER, f"the window of {branch.pool.var.name} is larger than {last.name}'s kernel"
    inner = [convolution for block in absorber.blocks[:-1] for convolution in block.convolution.strides]
    if any(stride != 1 for stride in inner) or last.dilation != (1, 1):
        return Reason.DIFFERENT_STRIDES, f"a layer in front of {last.name} has a stride, or it is dilated"
    if _strides(branch) != last.strides:
        return Reason.DIFFERENT_STRIDES, f"{branch.last.name} and {last.name} have different strides"
    if _signature(absorber) != _signature(branch):
        return Reason.DIFFERENT_ACTIVATIONS, f"behind {branch.last.name} and {last.name}"
    if any(
        not 0 <= tap <= k - 1 for tap, k in zip(_tap(absorber, branch), last.weight.shape[2:], strict=True)
    ):
        return Reason.NO_ABSORBER, f"{branch.last.name} looks outside the window of {last.name}"
    return None


def _strides(branch: _Branch) -> tuple[int, ...]:
    pool = (1, 1) if branch.pool is None else branch.pool.strides
    return tuple(s * t for s, t in zip(branch.last.strides, pool, strict=True))


def _signature(branch: _Branch) -> list[tuple[str, str]]:
    return [(layer.operator, str(layer.call.attrs)) for layer in branch.blocks[-1].activations]


def _tap(absorber: _Branch, branch: _Branch) -> tuple[int, int]:
    """Where in the absorber's kernel the branch's kernel begins, so that both look at the same place."""
    taps = []
    for axis in (0, 1):
        tap = absorber.last.padding[axis] - branch.last.padding[axis]
        if branch.pool is not None:
            tap += (branch.pool.window[axis] - 1) // 2 - branch.pool.padding[axis]
        taps.append(tap)
    return tuple(taps)


def _merge(
    name: str, layers: tuple[str, ...], concat: relax.Var, branches: list[_Branch], groups: list[_Group]
) -> Merge:
    absorbed = [branch for group in groups for branch in group.absorbed]
    exact = all(group.is_exact for group in groups)
    changed = [group for group in groups if group.absorbed]
    return Merge(
        name=name,
        kind=Kind.BRANCH,
        layers=layers,
        removed=tuple(layer for branch in absorbed for layer in branch.layer_names),
        touches=frozenset({concat, *(b.convolution.var for branch in branches for b in branch.blocks)}),
        replacements={concat: lambda emit: _emit(emit, concat.name, branches[0].source, groups)},
        reborn=() if exact else tuple(layer for group in changed for layer in _reborn(group)),
    )


def _reborn(group: _Group) -> tuple[str, ...]:
    reducer = (group.absorber.blocks[-2].convolution.name,) if group.shrinks else ()
    return (*reducer, group.absorber.last.name)


def _emit(emit: Emitter, name: str, source: relax.Expr, groups: list[_Group]) -> relax.Expr:
    pieces: dict[int, relax.Expr] = {}
    for group in groups:
        var = emit(group.absorber.source)
        for block in _merged_blocks(group):
            var = block.emit(emit, var)
        pieces |= _pieces(emit, group, var)
    return emit.layer(name, relax.op.concat([pieces[place] for place in sorted(pieces)], axis=1))


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
    absorber = replace(group.absorber, blocks=(*front, last))
    to_reduced = _centre_taps(front, inputs=shape_of(group.absorber.source)[1])
    members = [
        (last, last.convolution.weight)
        if branch is group.absorber
        else (branch.blocks[-1], _placed(absorber, branch, to_reduced))
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


def _centre_taps(front: list[ConvBlock], inputs: int) -> np.ndarray:
    """The linear map (reduced channels, input channels) of the middle taps of the layers in front."""
    taps = [
        weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2].astype("float64")
        for weight in (block.convolution.weight for block in front)
    ]
    return functools.reduce(lambda product, tap: tap @ product, taps, np.eye(inputs))


def _placed(absorber: _Branch, branch: _Branch, to_reduced: np.ndarray) -> np.ndarray:
    """The branch's kernel on the reduced channels, inside a kernel of the absorber's size."""
    kernel = branch.last.weight
    on_reduced = np.einsum("oihw,ir->orhw", kernel.astype("float64"), np.linalg.pinv(to_reduced))
    placed = np.zeros((len(kernel), *absorber.last.weight.shape[1:]), dtype=kernel.dtype)
    top, left = _tap(absorber, branch)
    height = min(kernel.shape[2], placed.shape[2] - top)
    width = min(kernel.shape[3], placed.shape[3] - left)
    placed[:, :, top : top + height, left : left + width] = on_reduced[:, :, :height, :width]
    return placed


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
