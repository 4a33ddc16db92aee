"""Branches that a concat joins, and the layer where they fork.

A *branch* is a row of conv blocks from the block's input to the concat, perhaps behind a pool. It is *small*
if one convolution could be more output channels of a larger one: it has a single convolution, 1x1 or behind a
pool. A pool alone is small too: it stands for a 1x1 convolution behind it whose kernel is the identity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from relay_passes.convolution import ConvBlock, Convolution, own_block
from relay_passes.graph import Graph, shape_of
from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason
from relay_passes.pooling import Pool
from relay_passes.value_range import UNKNOWN, Range, value_range


@dataclass(frozen=True)
class Branch:
    """One branch of a block.

    `place` is that among the operands of the concat. `values` are the bounds of what a pool alone gives.
    `is_cut` says that the concat joins a part of its channels there.
    """

    place: int
    source: relax.Expr
    pool: Pool | None
    blocks: tuple[ConvBlock, ...]
    averages: bool = False
    is_pool_alone: bool = False
    is_cut: bool = False
    values: Range = UNKNOWN

    @property
    def first(self) -> Convolution:
        """The convolution at its beginning."""
        return self.blocks[0].convolution

    @property
    def last(self) -> Convolution:
        """The convolution at its end."""
        return self.blocks[-1].convolution

    @property
    def reducer(self) -> Convolution | None:
        """The 1x1 convolution in front of the last one, if there is one."""
        before = self.blocks[-2].convolution if len(self.blocks) > 1 else None
        return before if before is not None and before.kernel == (1, 1) else None

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
        """Whether another convolution can absorb it: one convolution, on the input or on a pool of it."""
        can_move = len(self.blocks) == 1 and not self.is_cut
        return can_move and (self.pool is not None or self.last.kernel == (1, 1))

    @property
    def is_plain(self) -> bool:
        """Whether it has no pool in front."""
        return self.pool is None

    @property
    def is_pixel(self) -> bool:
        """Whether it is nothing but a 1x1 convolution on the input."""
        return self.is_plain and self.is_small

    @property
    def is_large(self) -> bool:
        """Whether its last kernel is larger than a pixel and stands behind no pool."""
        return self.is_plain and self.smallest_side > 1

    @property
    def name(self) -> str:
        """The name of its last layer with weights, or that of the pool alone."""
        return self.last.name

    @property
    def vars(self) -> tuple[relax.Var, ...]:
        """Its layers, the pool first."""
        pool = () if self.pool is None else (self.pool.var,)
        layers = () if self.is_pool_alone else tuple(var for block in self.blocks for var in block.vars)
        return pool + layers

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
class Fork:
    """The branches of a block that start from one layer.

    `squeeze` is the 1x1 convolution that makes this layer, if it may shrink: these branches alone read it.
    `untrained` names the network's layers that an earlier merge left to be trained.
    """

    source: relax.Expr
    branches: tuple[Branch, ...]
    squeeze: ConvBlock | None
    untrained: Set[str]


def branch_at(graph: Graph, operand: relax.Var, place: int) -> Branch | Refused:
    """The branch that ends in `operand`, back to where it forks, or why there is none."""
    split = channel_split(graph, operand)
    if split is not None and graph.has_one_user(operand):
        whole = branch_at(graph, graph.value[split].args[0], place)
        return replace(whole, is_cut=True) if isinstance(whole, Branch) else whole
    blocks: list[ConvBlock] = []
    var: relax.Expr = operand
    while _is_own(graph, var) and (block := ConvBlock.ending_at(graph, var)) is not None:
        blocks.insert(0, block)
        var = block.convolution.source
    pool = Pool.at(graph, var) if _is_own(graph, var) else None
    if pool is None:
        return Branch(place, var, None, tuple(blocks)) if blocks else _why_no_branch(graph, operand)
    averages = graph.call(pool.var, "nn.avg_pool2d") is not None
    if blocks:
        return Branch(place, pool.source, pool, tuple(blocks), averages)
    values = value_range(graph, pool.var)
    return Branch(place, pool.source, pool, (_identity(pool),), averages, is_pool_alone=True, values=values)


def channel_split(graph: Graph, var: relax.Expr) -> relax.Var | None:
    """The `split` of channels (axis 1) of which `var` is an item, or None."""
    value = graph.value.get(var)
    call = graph.call(value.tuple_value, "split") if isinstance(value, relax.TupleGetItem) else None
    is_of_channels = call is not None and int(call.attrs.axis) % call.args[0].ty.ndim == 1
    return value.tuple_value if is_of_channels else None


def forks_of(graph: Graph, branches: Iterable[Branch], untrained: Set[str]) -> list[Fork]:
    """Branches with a common source together, in the order of the concat."""
    by_source: dict[relax.Expr, list[Branch]] = {}
    for branch in branches:
        by_source.setdefault(branch.source, []).append(branch)
    return [
        Fork(source, tuple(own), _squeeze(graph, source, own, untrained), untrained)
        for source, own in by_source.items()
    ]


def _is_own(graph: Graph, var: relax.Expr) -> bool:
    return var in graph.value and graph.has_one_user(var)


def _why_no_branch(graph: Graph, operand: relax.Var) -> Refused:
    block = own_block(graph, operand)
    if not isinstance(block, ConvBlock) and block[0] is not Reason.NO_CONVOLUTION:
        return block
    return Reason.NO_WEIGHTS, f"{operand.name} is not a convolution's own branch"


def _identity(pool: Pool) -> ConvBlock:
    """The 1x1 convolution that gives back what the pool gives, under the pool's name."""
    channels = shape_of(pool.var)[1]
    weight = np.eye(channels, dtype=str(pool.var.ty.dtype)).reshape(channels, channels, 1, 1)
    return ConvBlock(Convolution(pool.var, pool.var, weight, (1, 1), (0, 0, 0, 0), (1, 1), 1, None), ())


def _squeeze(
    graph: Graph, source: relax.Expr, branches: list[Branch], untrained: Set[str]
) -> ConvBlock | None:
    block = ConvBlock.ending_at(graph, source)
    if block is None or block.convolution.kernel != (1, 1) or block.convolution.groups != 1:
        return None
    readers = [branch.first.var if branch.is_plain else branch.pool.var for branch in branches]
    is_theirs = Counter(graph.users[source]) == Counter(readers)
    can_narrow = all(
        branch.first.groups == 1 and not (branch.is_pool_alone or branch.is_cut) for branch in branches
    )
    if graph.is_output(source) or not is_theirs or not can_narrow:
        return None
    return None if block.convolution.name in untrained else block
