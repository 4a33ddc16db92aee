"""Make the pools and LRNs behind a convolution part of it (DeepRebirth, streamline merging).

    conv -> relu -> lrn -> max_pool      becomes      conv' -> relu

The new convolution keeps the kernel and takes the product of the strides; `pooling` says with which padding.
LRN is pruned; activations and biases stay, in order. The reborn kernel starts as the old one: without a pool
to choose the largest of its outputs, the convolution computes the one in the middle of the window.

A pool inside a residual stays: one that reads a sum of two layers, and one that only such a sum reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tvm
from tvm import relax

from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution, own_block, tail_of
from relay_passes.graph import Graph
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.pooling import Pool, is_global, why_no_stride, with_stride_of


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
            fits = not pool.is_global and _residual(graph, pool) is None
            geometry = with_stride_of(convolution, pool) if fits else None
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
    pool = Pool.at(graph, var)
    residual = None if pool is None else _residual(graph, pool)
    if residual is not None:
        return Reason.RESIDUAL, residual
    block = own_block(graph, source)
    if not isinstance(block, ConvBlock):
        return block
    return why_no_stride(block.convolution, pool)


def _residual(graph: Graph, pool: Pool) -> str | None:
    """Which sum of two layers the pool reads, or is the shortcut of, in words; None if it does neither."""
    source, _ = tail_of(graph, pool.source)
    if (names := _summands(graph, source)) is not None:
        return f"it reads the sum of {names}"
    end = _end_of_tail(graph, pool.var)
    readers = graph.users[end]
    if len(readers) == 1 and (names := _summands(graph, readers[0])) is not None:
        return f"it is the shortcut of the sum of {names}"
    return None


def _end_of_tail(graph: Graph, var: relax.Var) -> relax.Var:
    """The last of the channel-wise layers behind `var` that each have one reader."""
    while graph.has_one_user(var) and ChannelLayer.at(graph, graph.users[var][0]) is not None:
        var = graph.users[var][0]
    return var


def _summands(graph: Graph, var: relax.Expr) -> str | None:
    """The layers that an addition adds, by the names that the user gave them, or None for anything else."""
    call = graph.call(var, "add")
    if call is None or not all(isinstance(arg, relax.Var) for arg in call.args):
        return None
    left, right = (tail_of(graph, arg)[0] for arg in call.args)
    return f"{left.name} and {right.name}"
