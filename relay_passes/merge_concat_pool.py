"""Make a pool behind a concat the stride of every convolution that the concat joins.

    concat(conv_a -> relu, conv_b -> relu) -> max_pool    becomes    concat(conv_a' -> relu, conv_b' -> relu)

This is the streamline merge for the pools between the stages of an Inception network. It needs every branch
to end in a convolution, so it comes after the branch merge. A convolution whose channels stand in several
places of the concat is split behind; the split stays, between smaller pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from relay_passes.branch_block import channel_split
from relay_passes.convolution import ConvBlock, own_block
from relay_passes.graph import Emitter, Graph
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.pooling import Pool, is_global, why_no_stride, with_stride_of


@tvm.transform.module_pass(opt_level=0, name="MergeConcatPool")
class MergeConcatPool:
    """Make the merges of a plan that are named after a pool behind a concat."""

    def __init__(self, plan: MergePlan):
        self.plan = plan

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Spread each pool that the plan names over the branches."""
        return make_planned(module, find_concat_pools, self.plan)


def find_concat_pools(graph: Graph) -> Findings:
    """Pools and LRNs behind a concat of convolution blocks."""
    return Findings.sorted_out(_merge(graph, var) for var in graph.layers if _is_behind_concat(graph, var))


@dataclass(frozen=True)
class _Piece:
    """What a concat joins at one place: the end of a conv block, or an item of a `split` of it."""

    var: relax.Var
    block: ConvBlock
    split: relax.Var | None

    @classmethod
    def at(cls, graph: Graph, var: relax.Var, concat: relax.Var) -> _Piece | Refused:
        """The piece of the concat, or why its block can't take a stride."""
        split = channel_split(graph, var)
        for item in () if split is None else graph.users[split]:
            if not graph.has_one_user(item) or concat not in graph.users[item]:
                return Reason.SEVERAL_USERS, f"{item.name} is read by other layers or leaves the network"
        block = own_block(graph, var if split is None else graph.value[split].args[0])
        return cls(var, block, split) if isinstance(block, ConvBlock) else block

    @property
    def start(self) -> relax.Var:
        """Its convolution."""
        return self.block.convolution.var

    @property
    def vars(self) -> tuple[relax.Var, ...]:
        """Its layers, in order."""
        return self.block.vars if self.split is None else (*self.block.vars, self.split, self.var)


def _is_behind_concat(graph: Graph, var: relax.Var) -> bool:
    is_pool = Pool.at(graph, var) is not None or graph.composite(var) is not None
    return (
        is_pool and graph.call(graph.value[var].args[0], "concat") is not None and not is_global(graph, var)
    )


def _merge(graph: Graph, var: relax.Var) -> Merge | Refusal:
    concat = graph.value[var].args[0]
    found = _spread(graph, var, concat)
    if isinstance(found, Merge):
        return found
    return refusal(var.name, Kind.STREAMLINE, (concat.name, var.name), found)


def _spread(graph: Graph, var: relax.Var, concat: relax.Var) -> Merge | Refused:
    if not graph.has_one_user(concat):
        return Reason.SEVERAL_USERS, f"{concat.name} is read by several layers or leaves the network"
    joined = graph.joined_channels(concat)
    if joined is None:
        return Reason.NO_CONVOLUTION, f"{concat.name} does not join the channels of layers"
    pieces = [_Piece.at(graph, operand, concat) for operand in joined]
    refused = next((piece for piece in pieces if not isinstance(piece, _Piece)), None)
    if refused is not None:
        return refused
    pool = Pool.at(graph, var)
    blocks = {piece.start: piece.block for piece in pieces}
    strided = {start: block if pool is None else _with_pool(block, pool) for start, block in blocks.items()}
    if None in strided.values():
        too_small = next(block for start, block in blocks.items() if strided[start] is None)
        return why_no_stride(too_small.convolution, pool)
    layers = tuple(dict.fromkeys(layer for piece in pieces for layer in piece.vars))
    return Merge(
        name=var.name,
        kind=Kind.STREAMLINE,
        layers=(*(layer.name for layer in layers), concat.name, var.name),
        removed=(var.name,),
        touches=frozenset({var, concat, *layers}),
        replacements={var: lambda emit: _emit(emit, graph, concat, pieces, strided)},
        reborn=tuple(block.convolution.name for block in blocks.values()),
    )


def _with_pool(block: ConvBlock, pool: Pool) -> ConvBlock | None:
    geometry = with_stride_of(block.convolution, pool)
    return None if geometry is None else block.with_convolution(**geometry)


def _emit(
    emit: Emitter,
    graph: Graph,
    concat: relax.Var,
    pieces: list[_Piece],
    strided: Mapping[relax.Var, ConvBlock],
) -> relax.Expr:
    ends = {start: block.emit(emit, emit(block.convolution.source)) for start, block in strided.items()}
    for piece in pieces:
        if piece.split is not None and piece.split not in ends:
            call = graph.value[piece.split]
            again = relax.Call(call.op, [ends[piece.start]], call.attrs)
            ends[piece.split] = emit.layer(piece.split.name, again)
    joined = [
        ends[piece.start]
        if piece.split is None
        else emit.layer(piece.var.name, ends[piece.split][graph.value[piece.var].index])
        for piece in pieces
    ]
    return emit.layer(concat.name, relax.op.concat(joined, axis=1))
