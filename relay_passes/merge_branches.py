"""Make small branches of a block extra output channels of a larger one (DeepRebirth, branch merging).

    concat(conv1x1(x), conv3x3(reduce3(x)), conv5x5(reduce5(x)), conv1x1(max_pool(x)))
    becomes    concat(conv3x3'(reduce3'(x)), conv5x5'(reduce5(x)))

`divide_fork` says which branch goes into which convolution, `branch_groups` which layer in front shrinks to
half, as in the paper (3a: 96 to 48), `branch_weights` with which weights the reborn layers start. They write
their channels where the old concat put them. Branches that can't be merged stay in the concat as they are,
and each small one is refused by itself, found at its last layer.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from relay_passes.branch_block import Branch, branch_at, forks_of
from relay_passes.branch_groups import Division, Group
from relay_passes.branch_weights import merged_rows
from relay_passes.divide_fork import divide
from relay_passes.graph import Emitter, Graph
from relay_passes.merge import Findings, Merge, Refused, make_planned, reborn_layers, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal, common_name


@tvm.transform.module_pass(opt_level=0, name="MergeBranches")
class MergeBranches:
    """Make the branch merges of a plan."""

    def __init__(self, plan: MergePlan):
        self.plan = plan

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Merge the branches of each block that the plan names."""
        return make_planned(module, find_branches, self.plan)


def find_branches(graph: Graph) -> Findings:
    """Blocks of branches that a concat joins; refusals for the small branches that stay."""
    blocks = [block for var in graph.layers if (block := Block.at(graph, var)) is not None]
    count = Counter(block.common_name for block in blocks)
    found = (block.found(graph, is_alone=count[block.common_name] == 1) for block in blocks)
    return Findings.sorted_out(itertools.chain.from_iterable(found))


@dataclass(frozen=True)
class Block:
    """A concat of channels and its branches; a refusal stands for an operand that is none.

    `untrained` names the network's layers that an earlier merge left to be trained.
    """

    concat: relax.Var
    operands: tuple[relax.Var, ...]
    branches: tuple[Branch | Refused, ...]
    untrained: frozenset[str]

    @classmethod
    def at(cls, graph: Graph, concat: relax.Var) -> Block | None:
        """The block that `concat` joins, or None if it joins no different channels."""
        operands = graph.joined_channels(concat) or ()
        if len(set(operands)) < 2:
            return None
        branches = tuple(branch_at(graph, operand, place) for place, operand in enumerate(operands))
        return cls(concat, operands, branches, frozenset(reborn_layers(graph.module)))

    @property
    def own(self) -> list[Branch]:
        """The operands that are branches."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    @property
    def common_name(self) -> str:
        """What the names of its convolutions have in common; nothing if it has less than two."""
        names = [branch.name for branch in self.own if not branch.is_pool_alone]
        return common_name(names) if len(names) > 1 else ""

    def found(self, graph: Graph, *, is_alone: bool) -> Iterator[Merge | Refusal]:
        """The merge and the refusals; `is_alone` says that no other block has its common name."""
        forks = forks_of(graph, self.own, self.untrained)
        divisions, refused = [], {}
        for fork in forks:
            division, why = divide(fork)
            divisions.append(division)
            has_company = len(fork.branches) > 1 or len(forks) == 1
            refused |= why if has_company else {place: self._lonely(place, why[place]) for place in why}
        parts = [self.common_name] if self.common_name else []
        name = "/".join(parts if parts and is_alone else [*parts, self.concat.name])
        if any(division.changed for division in divisions):
            yield self.merge(name, divisions)
        elif not refused:
            yield self._refusal(name)
        for place, why in refused.items():
            branch = self.branches[place]
            yield refusal(branch.name, Kind.BRANCH, tuple(var.name for var in branch.vars), why)

    def merge(self, name: str, divisions: list[Division]) -> Merge:
        """The merge that makes these divisions, one for each fork."""
        squeezes = [division.fork.squeeze for division in divisions if division.squeezes]
        groups = [group for division in divisions for group in division.changed]
        absorbed = [branch for group in groups for branch in group.absorbed]
        members = sorted(
            (branch for group in groups for branch in group.members), key=lambda each: each.place
        )
        rows = (*(squeeze.vars for squeeze in squeezes), *(branch.vars for branch in members), (self.concat,))
        vars_ = tuple(itertools.chain.from_iterable(rows))
        return Merge(
            name=name,
            kind=Kind.BRANCH,
            layers=tuple(var.name for var in vars_),
            removed=tuple(var.name for branch in absorbed for var in branch.vars),
            touches=frozenset(vars_),
            replacements={self.concat: lambda emit: self._emit(emit, divisions)},
            reborn=tuple(dict.fromkeys(name for division in divisions for name in self._reborn(division))),
        )

    def _lonely(self, place: int, why: Refused) -> Refused:
        branch = self.branches[place]
        if branch.is_pool_alone:
            return why
        return Reason.DIFFERENT_INPUTS, f"no other branch starts where {branch.name} does"

    def _refusal(self, name: str) -> Refusal:
        """Why a block without small branches stays."""
        strangers = (place for place, branch in enumerate(self.branches) if not isinstance(branch, Branch))
        place = next(strangers, None)
        if place is not None:
            layers = (self.operands[place].name, self.concat.name)
            return refusal(name, Kind.BRANCH, layers, self.branches[place])
        layers = (*(var.name for branch in self.own for var in branch.vars), self.concat.name)
        why = Reason.NO_ABSORBER, "no branch is small enough to be absorbed"
        return refusal(name, Kind.BRANCH, layers, why)

    def _reborn(self, division: Division) -> Iterator[str]:
        """Layers that compute something else, or take part in what an earlier merge changed."""
        if division.squeezes:
            yield division.fork.squeeze.convolution.name
        for group in division.changed:
            names = {block.convolution.name for branch in group.members for block in branch.blocks}
            if division.squeezes:
                yield group.absorber.first.name
            if not group.is_exact or not names.isdisjoint(self.untrained):
                yield from group.changed

    def _emit(self, emit: Emitter, divisions: list[Division]) -> relax.Expr:
        pieces: dict[int, relax.Expr] = {}
        for division in divisions:
            pieces |= _pieces_of(emit, division)
        staying = set(range(len(self.operands))) - self._taken(divisions)
        pieces |= {place: emit(self.operands[place]) for place in staying}
        in_order = [pieces[place] for place in sorted(pieces)]
        if len(in_order) == 1:
            return in_order[0]
        return emit.layer(self.concat.name, relax.op.concat(in_order, axis=1))

    @staticmethod
    def _taken(divisions: list[Division]) -> set[int]:
        groups = (group for division in divisions for group in division.changed)
        return {branch.place for group in groups for branch in group.members}


def _pieces_of(emit: Emitter, division: Division) -> Mapping[int, relax.Expr]:
    """What the groups of a fork that change make, by their places in the concat."""
    squeeze, rows = merged_rows(division)
    source = squeeze.emit(emit, emit(squeeze.convolution.source)) if squeeze else emit(division.fork.source)
    pieces: dict[int, relax.Expr] = {}
    for group, row in zip(division.changed, rows, strict=True):
        var = source
        for block in row:
            var = block.emit(emit, var)
        pieces |= _cut(emit, group, var)
    return pieces


def _cut(emit: Emitter, group: Group, var: relax.Var) -> dict[int, relax.Expr]:
    """The group's result in pieces wherever other branches stand in between."""
    places = [branch.place for branch in group.members]
    starts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1] + 1]
    if len(starts) == 1:
        return {places[0]: var}
    ends = np.cumsum([branch.channels for branch in group.members])
    cuts = [int(ends[start - 1]) for start in starts[1:]]
    parts = emit.layer(f"{var.name}.split", relax.op.split(var, cuts, axis=1))
    return {places[start]: emit.layer(f"{var.name}.{i}", parts[i]) for i, start in enumerate(starts)}
