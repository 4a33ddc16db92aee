"""Make the pools and LRNs behind a convolution part of it (DeepRebirth, streamline merging).

    conv -> relu -> lrn -> max_pool      becomes      conv' -> relu

The new convolution keeps the kernel and takes the product of the strides; `pooling` says with which padding.
LRN is pruned; activations and biases stay, in order. The reborn kernel starts as the old one: without a pool
to choose the largest of its outputs, the convolution computes the one in the middle of the window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tvm
from tvm import relax

from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution, own_block
from relay_passes.graph import Graph, shape_of
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.pooling import Pool, is_global, with_stride_of


@tvm.transform.module_pass(opt_level=0, name="MergeStreamline")
class MergeStreamline:
    """Make the streamline merges of a plan."""

    def __init__(self, plan: MergePlan):
        self.plan = plan

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Merge each chain whose convolution the plan names."""
        return make_planned(module, find_streamlines, self.plan)


def find_streamlines(graph: Graph) -> Findings:
    """Chains of a convolution, channel-wise layers, pools and LRNs; refusals for pools and LRNs left over."""
    merges = [merge for var in graph.layers if (merge := _merge(graph, var)) is not None]
    removed = {name for merge in merges for name in merge.removed}
    left = (var for var in graph.layers if var.name not in removed)
    refusals = [refused for var in left if (refused := _refusal(graph, var)) is not None]
    return Findings(tuple(merges), tuple(refusals))


@dataclass(frozen=True)
class _Chain:
    """A convolution, the layers that stay behind it, those that go, and all in order."""

    block: ConvBlock
    removed: tuple[str, ...]
    passed: tuple[relax.Var, ...]


def _chain(graph: Graph, start: relax.Var) -> _Chain | None:
    """The longest chain from a convolution that ends in a pool or an LRN, or None."""
    convolution = Convolution.at(graph, start)
    if convolution is None:
        return None
    best, tail, removed, passed = None, (), (), (start,)
    var = start
    while graph.has_one_user(var):
        var = graph.users[var][0]
        pool, layer = Pool.at(graph, var), ChannelLayer.at(graph, var)
        passed += (var,)
        if pool is not None:
            geometry = None if pool.is_global else with_stride_of(convolution, pool)
            if geometry is None:
                break
            convolution = replace(convolution, **geometry)
            removed += (var.name,)
        elif graph.composite(var) is not None:
            removed += (var.name,)
        elif layer is not None:
            tail += (layer,)
        else:
            break
        if layer is None:
            best = _Chain(ConvBlock(convolution, tail), removed, passed)
    return best


def _merge(graph: Graph, start: relax.Var) -> Merge | None:
    chain = _chain(graph, start)
    if chain is None:
        return None
    block = chain.block
    return Merge(
        name=start.name,
        kind=Kind.STREAMLINE,
        layers=tuple(var.name for var in chain.passed),
        removed=chain.removed,
        touches=frozenset(chain.passed),
        replacements={chain.passed[-1]: lambda emit: block.emit(emit, emit(block.convolution.source))},
        reborn=(start.name,),
    )


def _refusal(graph: Graph, var: relax.Var) -> Refusal | None:
    if Pool.at(graph, var) is None and graph.composite(var) is None and not is_global(graph, var):
        return None
    source = graph.value[var].args[0]
    if graph.call(source, "concat") is not None and not is_global(graph, var):
        return None
    layers = (source.name, var.name) if isinstance(source, relax.Var) else (var.name,)
    return refusal(var.name, Kind.STREAMLINE, layers, _why(graph, var, source))


def _why(graph: Graph, var: relax.Var, source: relax.Expr) -> Refused:
    if is_global(graph, var):
        detail = "its window is the whole input; a stride would leave one convolution output"
        return Reason.GLOBAL_POOL, detail
    block = own_block(graph, source)
    if not isinstance(block, ConvBlock):
        return block
    return Reason.SHAPE_WOULD_CHANGE, shape_detail(block.convolution, var)


def shape_detail(convolution: Convolution, pool: relax.Var) -> str:
    """Why a convolution can't take the stride of a pool."""
    wanted = "x".join(str(size) for size in shape_of(pool)[2:])
    return f"no padding of {convolution.name} with the product of the strides gives {wanted}"
