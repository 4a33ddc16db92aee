"""A fork's branches in groups, each of which becomes one row of convolutions, and what that costs.

Where a branch without convolutions behind a pool of its own is taken in, the 1x1 reducer in front of the
absorber shrinks to half. An absorber without a reducer may stand on a 1x1 convolution that the fork's
branches alone read, SqueezeNet's squeeze: then that one shrinks, for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from relay_passes.branch_block import Branch, Fork
from relay_passes.convolution import Convolution
from relay_passes.graph import shape_of

Absorbers = Mapping[int, Branch]
"""By the place of a branch the one that absorbs it."""


@dataclass(frozen=True)
class Group:
    """A branch that absorbs, and those that it absorbs; `shrinks` says that its reducer is halved."""

    absorber: Branch
    absorbed: tuple[Branch, ...]
    shrinks: bool

    @property
    def members(self) -> tuple[Branch, ...]:
        """All its branches, in the order of the concat."""
        return tuple(sorted((self.absorber, *self.absorbed), key=lambda branch: branch.place))

    @property
    def is_exact(self) -> bool:
        """Whether the absorber computes what the branches did."""
        return len(self.absorber.blocks) == 1 and all(branch.is_plain for branch in self.absorbed)

    @property
    def changed(self) -> tuple[str, ...]:
        """The layers that get other weights."""
        reducer = (self.absorber.reducer.name,) if self.shrinks else ()
        return (*reducer, self.absorber.last.name) if self.absorbed else ()

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Inputs (of one of its groups) and outputs of each convolution of the row after merging."""
        rows = [block.convolution.weight.shape for block in self.absorber.blocks]
        widths = [(inputs, outputs) for outputs, inputs, *_ in rows]
        if self.shrinks:
            (inputs, reduced), (_, outputs) = widths[-2:]
            widths[-2:] = [(inputs, half(reduced)), (half(reduced), outputs)]
        inputs, _ = widths[-1]
        widths[-1] = inputs, sum(branch.channels for branch in self.members)
        return widths


@dataclass(frozen=True)
class Division:
    """A fork's branches in groups; `squeezes` says that the fork's squeeze is halved."""

    fork: Fork
    groups: tuple[Group, ...]
    squeezes: bool

    @property
    def changed(self) -> tuple[Group, ...]:
        """The groups that don't stay as they are."""
        return tuple(group for group in self.groups if group.absorbed or self.squeezes)

    @property
    def macs_change(self) -> int:
        """By how much the multiply-adds change."""
        change = sum(self._macs_of(group) for group in self.groups)
        change -= sum(_macs_of(branch) for branch in self.fork.branches)
        if self.squeezes:
            squeeze = self.fork.squeeze.convolution
            outputs, inputs, *_ = squeeze.weight.shape
            change += _macs(squeeze, inputs, half(outputs)) - _macs(squeeze, inputs, outputs)
        return change

    def _macs_of(self, group: Group) -> int:
        (inputs, outputs), *others = group.widths
        widths = [(half(inputs) if self.squeezes else inputs, outputs), *others]
        blocks = () if group.absorber.is_pool_alone else group.absorber.blocks
        return sum(_macs(block.convolution, *width) for block, width in zip(blocks, widths, strict=False))


def half(channels: int) -> int:
    """How many channels a layer keeps that shrinks to half."""
    return -(-channels // 2)


def divided(fork: Fork, absorbers: Absorbers) -> Division:
    """The fork with some branches absorbed."""
    groups = []
    for branch in fork.branches:
        if branch.place not in absorbers:
            absorbed = tuple(other for other in fork.branches if absorbers.get(other.place) is branch)
            groups.append(Group(branch, absorbed, _shrinks(fork, branch, absorbed)))
    return Division(fork, tuple(groups), _squeezes(fork, groups))


def _shrinks(fork: Fork, absorber: Branch, absorbed: tuple[Branch, ...]) -> bool:
    """Whether the reducer is halved; one that an earlier merge made is not halved again."""
    reducer = absorber.reducer
    return reducer is not None and reducer.name not in fork.untrained and _takes_in_more(absorbed)


def _squeezes(fork: Fork, groups: list[Group]) -> bool:
    """Whether the squeeze is halved; not if a pool stays that reads it."""
    absorbers = [group.absorber for group in groups if _takes_in_more(group.absorbed)]
    gains = any(len(absorber.blocks) == 1 and absorber.is_large for absorber in absorbers)
    return fork.squeeze is not None and gains and all(group.absorber.is_plain for group in groups)


def _takes_in_more(absorbed: tuple[Branch, ...]) -> bool:
    """Whether more is taken in than a convolution behind a pool."""
    return any(branch.is_plain or branch.is_pool_alone for branch in absorbed)


def _macs(convolution: Convolution, inputs: int, outputs: int) -> int:
    """Multiply-adds of a convolution with other numbers of channels."""
    batch, _, *size = shape_of(convolution.var)
    return batch * math.prod(size) * math.prod(convolution.kernel) * inputs * outputs


def _macs_of(branch: Branch) -> int:
    blocks = () if branch.is_pool_alone else branch.blocks
    shapes = ((block.convolution, block.convolution.weight.shape) for block in blocks)
    return sum(_macs(convolution, shape[1], shape[0]) for convolution, shape in shapes)
