"""Make a pool behind a concat the stride of every convolution that the concat joins.

    concat(conv_a -> relu, conv_b -> relu) -> max_pool    becomes    concat(conv_a' -> relu, conv_b' -> relu)

This is the streamline merge for the pools between the stages of an Inception network. It needs every branch
to end in a convolution, so it comes after the branch merge.
"""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.convolution import ConvBlock, own_block
from relay_passes.graph import Emitter, Graph
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.merge_streamline import shape_detail
from relay_passes.pooling import Pool, is_global, with_stride_of


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
    branches = graph.joined_channels(concat)
    if branches is None:
        return Reason.NO_CONVOLUTION, f"{concat.name} does not join the channels of layers"
    blocks = [own_block(graph, branch) for branch in branches]
    refused = next((block for block in blocks if not isinstance(block, ConvBlock)), None)
    if refused is not None:
        return refused
    pool = Pool.at(graph, var)
    merged = blocks if pool is None else [_with_pool(block, pool) for block in blocks]
    if None in merged:
        return Reason.SHAPE_WOULD_CHANGE, shape_detail(blocks[merged.index(None)].convolution, var)
    return Merge(
        name=var.name,
        kind=Kind.STREAMLINE,
        layers=(*(layer.name for block in blocks for layer in block.vars), concat.name, var.name),
        removed=(var.name,),
        touches=frozenset({var, concat, *(layer for block in blocks for layer in block.vars)}),
        replacements={var: lambda emit: _emit(emit, concat.name, merged)},
        reborn=tuple(block.convolution.name for block in blocks),
    )


def _with_pool(block: ConvBlock, pool: Pool) -> ConvBlock | None:
    geometry = with_stride_of(block.convolution, pool)
    return None if geometry is None else block.with_convolution(**geometry)


def _emit(emit: Emitter, name: str, blocks: list[ConvBlock]) -> relax.Expr:
    branches = [block.emit(emit, emit(block.convolution.source)) for block in blocks]
    return emit.layer(name, relax.op.concat(branches, axis=1))
