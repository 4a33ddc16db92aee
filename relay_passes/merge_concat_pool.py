"""Make a pool behind a concat the stride of every convolution that the concat joins.

    concat(conv_a -> relu, conv_b -> relu) -> max_pool    becomes    concat(conv_a' -> relu, conv_b' -> relu)

This is the streamline merge for the pools between the stages of an Inception network. It needs every branch
to end in a convolution, so it comes after the branch merge.
"""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.convolution import ConvBlock
from relay_passes.graph import Emitter, Graph, variables
from relay_passes.merge import Findings, Merge, merge_by_name
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.merge_streamline import shape_detail
from relay_passes.pooling import Pool, is_global, with_stride_of


@tvm.transform.module_pass(opt_level=0, name="MergeConcatPool")
class MergeConcatPool:
    """Make the merges of a plan that are named after a pool behind a concat."""

    def __init__(self, plan: MergePlan):
        self.names = plan.names(Kind.STREAMLINE)

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Spread each pool that the plan names over the branches."""
        return merge_by_name(module, find_concat_pools, self.names)


def find_concat_pools(graph: Graph) -> Findings:
    """Pools and LRNs behind a concat of convolution blocks."""
    merges, refusals = [], []
    for var in graph.layers:
        if Pool.at(graph, var) is None and graph.composite(var) is None:
            continue
        source = graph.value[var].args[0]
        if graph.call(source, "concat") is None or is_global(graph, var):
            continue
        found = _spread(graph, var, source)
        if isinstance(found, Merge):
            merges.append(found)
        else:
            reason, detail = found
            layers = (source.name, var.name)
            refusals.append(
                Refusal(name=var.name, kind=Kind.STREAMLINE, layers=layers, reason=reason, detail=detail)
            )
    return Findings(tuple(merges), tuple(refusals))


def _spread(graph: Graph, var: relax.Var, concat: relax.Var) -> Merge | tuple[Reason, str]:
    if not graph.has_one_user(concat):
        return Reason.SEVERAL_USERS, f"{concat.name} is read by other layers too"
    branches = variables(graph.value[concat])
    blocks = [ConvBlock.ending_at(graph, branch) for branch in branches]
    if None in blocks:
        return Reason.NO_CONVOLUTION, f"{branches[blocks.index(None)].name} does not end in a convolution"
    if not all(graph.has_one_user(branch) for branch in branches):
        return Reason.SEVERAL_USERS, f"a branch of {concat.name} is read by other layers too"
    if int(graph.value[concat].attrs.axis) != 1:
        return Reason.NO_CONVOLUTION, f"{concat.name} does not join channels"
    pool = Pool.at(graph, var)
    if pool is not None:
        geometries = [with_stride_of(block.convolution, pool) for block in blocks]
        if None in geometries:
            return Reason.SHAPE_WOULD_CHANGE, shape_detail(blocks[geometries.index(None)].convolution, var)
        blocks = [
            block.with_convolution(**geometry) for block, geometry in zip(blocks, geometries, strict=True)
        ]
    return _merge(var, concat, blocks)


def _merge(var: relax.Var, concat: relax.Var, blocks: list[ConvBlock]) -> Merge:
    layers = tuple(name for block in blocks for name in block.layer_names)
    return Merge(
        name=var.name,
        kind=Kind.STREAMLINE,
        layers=(*layers, concat.name, var.name),
        removed=(var.name,),
        touches=frozenset({var, concat, *(block.convolution.var for block in blocks)}),
        replacements={var: lambda emit: _emit(emit, concat.name, blocks)},
        reborn=tuple(block.convolution.name for block in blocks),
    )


def _emit(emit: Emitter, name: str, blocks: list[ConvBlock]) -> relax.Expr:
    branches = [block.emit(emit, emit(block.convolution.source)) for block in blocks]
    return emit.layer(name, relax.op.concat(branches, axis=1))
