"""Decompose convolutions into three thinner ones (Tucker-2, after Kim et al. 2016), matrices into two.

    conv KHxKW (I -> O)    becomes    1x1 (I -> R_in)  ->  KHxKW (R_in -> R_out)  ->  1x1 (R_out -> O)
    1x1, dense (I -> O)    becomes    1x1, dense (I -> R)  ->  1x1, dense (R -> O)

The one in the middle keeps the name, the strides, the padding and the dilation; the others are named
`<name>.in` and `<name>.out`, and either is left away where its rank equals the channels; for a matrix, one
always is. Bias and activations stay behind. `tucker` has the algebra, `ranks` the ways to choose the ranks;
those of a matrix count singular values. The weights approximate the old ones, so all these layers need
training. 1x1 convolutions and dense layers are decomposed where the choice of ranks says so.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import tvm
from tvm import relax

from relay_passes.graph import Constant, Emitter, Graph, array_of, operator_of, shape_of
from relay_passes.kernel_layer import OPERATORS, KernelLayer
from relay_passes.merge import Findings, Merge, Refused, next_sweep, refusal
from relay_passes.merge_plan import Kind, Reason, Refusal
from relay_passes.ranks import FEWEST_CHANNELS, RankChoice
from relay_passes.tucker import Factors, Ranks, decompose, squares


@tvm.transform.module_pass(opt_level=0, name="DecomposeTucker")
class DecomposeTucker:
    """Decompose every layer for which ranks are chosen."""

    def __init__(self, ranks: RankChoice):
        self.ranks = ranks

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Decompose what saves multiply-adds; `deeprebirth.reborn` names the layers made."""
        sweep = next_sweep(module, TuckerFinder(self.ranks), lambda _merge: True)
        return module if sweep is None else sweep.module


def find_tucker(graph: Graph, ranks: RankChoice) -> Findings:
    """Layers that a decomposition makes cheaper; refusals for the others that were looked at.

    Parameters
    ----------
    graph : Graph
    ranks : RankChoice

    Raises
    ------
    WrongRanks
        If `Fixed` ranks exceed the channels of their layer.
    """
    return TuckerFinder(ranks)(graph)


class TuckerFinder:
    """`find_tucker` for sweeps over changing graphs: it looks at the weights of a layer once."""

    def __init__(self, ranks: RankChoice):
        self._ranks = ranks
        self._squares: dict[tuple[Constant, int], np.ndarray] = {}

    def __call__(self, graph: Graph) -> Findings:
        """What `find_tucker` says."""
        return Findings.sorted_out(
            found for var in graph.layers if (found := self._look(graph, var)) is not None
        )

    def _look(self, graph: Graph, var: relax.Var) -> Merge | Refusal | None:
        call = graph.call(var, *OPERATORS)
        if call is None or not self._is_worth_a_look(call) or _is_made(graph, var):
            return None
        found = self._choose(graph, var, call)
        if found is None or isinstance(found, Merge):
            return found
        return refusal(var.name, Kind.TUCKER, (var.name,), found)

    def _is_worth_a_look(self, call: relax.Call) -> bool:
        """Whether it is a kernel of the sizes wanted, not depthwise, with channels enough."""
        sizes = shape_of(call.args[1])
        channels = sizes[:2]
        if operator_of(call) == "matmul" or max(sizes[2:]) == 1:
            is_matrix = len(sizes) in (2, 4) and len(sizes) == len(shape_of(call.args[0]))
            return self._ranks.matrices and is_matrix and min(channels) >= FEWEST_CHANNELS
        is_depthwise = call.attrs.groups > 1 and sizes[1] == 1
        return max(channels) >= FEWEST_CHANNELS and not is_depthwise

    def _choose(self, graph: Graph, var: relax.Var, call: relax.Call) -> Merge | Refused | None:
        weight = call.args[1]
        if array_of(weight) is None:
            return Reason.DYNAMIC, f"the weights of {var.name} are computed at run time"
        layer = KernelLayer.at(graph, var)
        if layer is None:
            return None
        if layer.groups != 1:
            return Reason.GROUPED, f"it has {layer.groups} groups"
        if not np.isfinite(layer.kernel).all():
            return Reason.NO_RANK, "its weights are not all finite"
        kernel = layer.seen(partial(self._squares_of, weight, layer))
        ranks = self._ranks.choose(kernel)
        if ranks is None or isinstance(ranks[0], Reason):
            return ranks
        before, after = kernel.macs(kernel.channels), kernel.macs(ranks)
        if after >= before:
            detail = f"ranks {ranks[0]} and {ranks[1]} would take {after:,} multiply-adds, not {before:,}"
            return Reason.SAVES_NOTHING, detail
        return _merge(layer, ranks)

    def _squares_of(self, weight: Constant, layer: KernelLayer, axis: int) -> np.ndarray:
        key = (weight, axis)
        if key not in self._squares:
            self._squares[key] = squares(layer.kernel, axis)
        return self._squares[key]


def _is_made(graph: Graph, var: relax.Var) -> bool:
    """Whether a decomposition made it: one of its layers is before or behind it."""
    layer, before = KernelLayer.at(graph, var), KernelLayer.at(graph, graph.value[var].args[0])
    behind = (KernelLayer.at(graph, user) for user in graph.users[var])
    return _belong(before, layer) or any(_belong(layer, each) for each in behind)


def _belong(before: KernelLayer | None, behind: KernelLayer | None) -> bool:
    """Whether one of two layers is what a decomposition put before or behind the other."""
    if before is None or behind is None:
        return False
    is_into = before.is_matrix and before.name.startswith(f"{behind.name}.in")
    return is_into or (behind.is_matrix and behind.name.startswith(f"{before.name}.out"))


def _merge(layer: KernelLayer, ranks: Ranks) -> Merge:
    outputs, inputs = layer.kernel.shape[:2]
    name = layer.name
    into = (f"{name}.in",) if ranks[0] < inputs else ()
    out = (f"{name}.out",) if ranks[1] < outputs else ()
    var = layer.layer.var
    return Merge(
        name=name,
        kind=Kind.TUCKER,
        layers=(name,),
        removed=(),
        touches=frozenset({var}),
        replacements={var: lambda emit: _emit(emit, layer, ranks)},
        reborn=(*into, name, *out),
        ranks=ranks,
    )


def _emit(emit: Emitter, layer: KernelLayer, ranks: Ranks) -> relax.Var:
    factors: Factors = decompose(layer.kernel, ranks)
    source = emit(layer.layer.source)
    if factors.into is not None:
        source = layer.emit_matrix(emit, f"{layer.name}.in", source, factors.into)
    core = layer.emit(emit, source, factors.core)
    if factors.out is None:
        return core
    return layer.emit_matrix(emit, f"{layer.name}.out", core, factors.out)
