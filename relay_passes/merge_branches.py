"""Make small branches of a block extra output channels of a larger one (DeepRebirth, branch merging).

    concat(conv1x1(x), conv3x3(reduce3(x)), conv5x5(reduce5(x)), conv1x1(max_pool(x)))
    becomes    concat(conv3x3'(reduce3'(x)), conv5x5'(reduce5(x)))

`branch_block` says which branch goes into which convolution. Where a 1x1 branch is absorbed, the reducer in
front shrinks to half, as in the paper (3a: 96 to 48). The reborn layers write their channels where the old
concat put them.

Reborn weights start from the best guess that needs no data. A shrunk reducer keeps the channels that carry
most (norm of the reducer's row times norm of what reads it). A branch kernel K on the block's input x becomes
K pinv(R), R being the centre taps of the layers in front of the absorber multiplied together: the
least-squares answer if those layers were linear. It stands where the branch looked, mostly the centre of the
larger kernel. Without a reducer R is the identity, and a 1x1 branch without a pool is absorbed exactly.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax

from relay_passes.branch_block import Branch, Group, branch_at, groups_of, taps_of
from relay_passes.convolution import ChannelLayer, ConvBlock
from relay_passes.graph import Emitter, Graph
from relay_passes.merge import Findings, Merge, make_planned, reborn_layers, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal, common_name

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
    return Findings.sorted_out(block.merge(is_alone=count[block.common_name] == 1) for block in blocks)


@dataclass(frozen=True)
class _Block:
    """A concat of channels and its branches, None for those that are no row of conv blocks.

    `untrained` names the network's layers that an earlier merge left to be trained.
    """

    concat: relax.Var
    operands: tuple[relax.Var, ...]
    branches: tuple[Branch | None, ...]
    untrained: frozenset[str]

    @classmethod
    def at(cls, graph: Graph, concat: relax.Var) -> _Block | None:
        operands = graph.joined_channels(concat) or ()
        if len(set(operands)) < 2:
            return None
        branches = tuple(branch_at(graph, operand, place) for place, operand in enumerate(operands))
        return cls(concat, operands, branches, frozenset(reborn_layers(graph.module)))

    @property
    def common_name(self) -> str:
        """What the names of its convolutions have in common; nothing if a branch has none."""
        return "" if None in self.branches else common_name(branch.last.name for branch in self.branches)

    def merge(self, *, is_alone: bool) -> Merge | Refusal:
        """The merge, or why it is refused; `is_alone` says that no other block has its common name."""
        parts = [self.common_name] if self.common_name else []
        name = "/".join(parts if parts and is_alone else [*parts, self.concat.name])
        if None in self.branches:
            stranger = self.operands[self.branches.index(None)].name
            refused = Reason.NO_WEIGHTS, f"{stranger} is not a convolution's own branch"
            return refusal(name, Kind.BRANCH, (stranger, self.concat.name), refused)
        vars_ = (*(var for branch in self.branches for var in branch.vars), self.concat)
        layers = tuple(var.name for var in vars_)
        groups = groups_of(self.branches)
        if not isinstance(groups, list):
            return refusal(name, Kind.BRANCH, layers, groups)
        absorbed = [branch for group in groups for branch in group.absorbed]
        return Merge(
            name=name,
            kind=Kind.BRANCH,
            layers=layers,
            removed=tuple(var.name for branch in absorbed for var in branch.vars),
            touches=frozenset(vars_),
            replacements={self.concat: lambda emit: _emit(emit, self.concat.name, groups)},
            reborn=tuple(layer for group in groups if self._is_reborn(group) for layer in group.changed),
        )

    def _is_reborn(self, group: Group) -> bool:
        """Whether the group computes something else, or takes part in what an earlier merge changed."""
        names = {block.convolution.name for branch in group.members for block in branch.blocks}
        return not group.is_exact or not names.isdisjoint(self.untrained)


def _emit(emit: Emitter, name: str, groups: list[Group]) -> relax.Expr:
    pieces: dict[int, relax.Expr] = {}
    for group in groups:
        var = emit(group.absorber.source)
        for block in _merged_blocks(group):
            var = block.emit(emit, var)
        pieces |= _pieces(emit, group, var)
    in_order = [pieces[place] for place in sorted(pieces)]
    return in_order[0] if len(in_order) == 1 else emit.layer(name, relax.op.concat(in_order, axis=1))


def _pieces(emit: Emitter, group: Group, var: relax.Var) -> dict[int, relax.Expr]:
    """The group's result at its places in the concat, cut up if other branches stand in between."""
    places = [branch.place for branch in group.members]
    if places == list(range(places[0], places[-1] + 1)):
        return {places[0]: var}
    ends = np.cumsum([branch.channels for branch in group.members])[:-1]
    parts = emit.layer(f"{var.name}.split", relax.op.split(var, [int(end) for end in ends], axis=1))
    return {place: emit.layer(f"{var.name}.{i}", parts[i]) for i, place in enumerate(places)}


def _merged_blocks(group: Group) -> list[ConvBlock]:
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


def _placed(absorber: Branch, branch: Branch, front: list[ConvBlock]) -> np.ndarray:
    """The branch's kernel behind the layers in front, inside a kernel of the absorber's size."""
    on_reduced = _on_reduced(branch.last.weight, front)
    placed = np.zeros((*on_reduced.shape[:2], *absorber.last.kernel), dtype=branch.last.weight.dtype)
    placed[:, :, *taps_of(absorber, branch)] = on_reduced
    return placed


def _on_reduced(kernel: np.ndarray, front: list[ConvBlock]) -> np.ndarray:
    """K pinv(R), a kernel that reads what the layers in front make of the block's input."""
    if not front:
        return kernel
    reduce = functools.reduce(lambda product, tap: tap @ product, map(_centre_tap, front))
    gram = reduce @ reduce.T
    gram += np.eye(len(gram)) * (RIDGE * np.trace(gram) / len(gram) or 1.0)
    outputs, _, height, width = kernel.shape
    rows = np.moveaxis(kernel, 1, -1).reshape(-1, reduce.shape[1]).astype("float64")
    on_reduced = np.linalg.solve(gram, reduce @ rows.T).T
    return np.moveaxis(on_reduced.reshape(outputs, height, width, -1), -1, 1)


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
