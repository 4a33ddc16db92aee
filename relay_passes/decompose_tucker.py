"""Decompose convolutions into three thinner ones (Tucker-2, after Kim et al. 2016).

    conv KHxKW (I -> O)    becomes    1x1 (I -> R_in)  ->  KHxKW (R_in -> R_out)  ->  1x1 (R_out -> O)

The one in the middle keeps the name, the strides, the padding and the dilation; the others are named
`<name>.in` and `<name>.out`, and either is left away where its rank equals the channels. Bias and activations
stay behind. `tucker` has the algebra, `ranks` the ways to choose the ranks. The weights approximate the old
ones, so all three layers need training. Dense layers are left alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.convolution import Convolution
from relay_passes.graph import Constant, Emitter, Graph, array_of, shape_of
from relay_passes.merge import Findings, Merge, Refused, next_sweep, refusal
from relay_passes.merge_plan import Kind, Reason, Refusal
from relay_passes.ranks import FEWEST_CHANNELS, Kernel, RankChoice
from relay_passes.tucker import Factors, Ranks, decompose, squares


@tvm.transform.module_pass(opt_level=0, name="DecomposeTucker")
class DecomposeTucker:
    """Decompose every convolution for which ranks are chosen."""

    def __init__(self, ranks: RankChoice):
        self.ranks = ranks

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Decompose what saves multiply-adds; `deeprebirth.reborn` names the layers made."""
        sweep = next_sweep(module, TuckerFinder(self.ranks), lambda _merge: True)
        return module if sweep is None else sweep.module


def find_tucker(graph: Graph, ranks: RankChoice) -> Findings:
    """Convolutions that a decomposition makes cheaper; refusals for the others that are no 1x1 ones.

    Parameters
    ----------
    graph : Graph
    ranks : RankChoice

    Raises
    ------
    WrongRanks
        If `Fixed` ranks exceed the channels of their convolution.
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
        call = graph.call(var, "nn.conv2d")
        if call is None or not _is_worth_a_look(call) or _is_core(graph, var):
            return None
        found = self._choose(graph, var, call)
        if found is None or isinstance(found, Merge):
            return found
        return refusal(var.name, Kind.TUCKER, (var.name,), found)

    def _choose(self, graph: Graph, var: relax.Var, call: relax.Call) -> Merge | Refused | None:
        weight = call.args[1]
        if array_of(weight) is None:
            return Reason.DYNAMIC, f"the weights of {var.name} are computed at run time"
        convolution = Convolution.at(graph, var)
        if convolution is None:
            return None
        if convolution.groups != 1:
            return Reason.GROUPED, f"it has {convolution.groups} groups"
        if not np.isfinite(convolution.weight).all():
            return Reason.NO_RANK, "its weights are not all finite"
        kernel = Kernel.of(convolution, partial(self._squares_of, weight))
        ranks = self._ranks.choose(kernel)
        if ranks is None or isinstance(ranks[0], Reason):
            return ranks
        before, after = kernel.macs(kernel.channels), kernel.macs(ranks)
        if after >= before:
            detail = f"ranks {ranks[0]} and {ranks[1]} would take {after:,} multiply-adds, not {before:,}"
            return Reason.SAVES_NOTHING, detail
        return _merge(convolution, ranks)

    def _squares_of(self, weight: Constant, axis: int) -> np.ndarray:
        key = (weight, axis)
        if key not in self._squares:
            self._squares[key] = squares(array_of(weight), axis)
        return self._squares[key]


def _is_worth_a_look(call: relax.Call) -> bool:
    """Whether it is larger than 1x1, not depthwise, and has channels enough."""
    outputs, inputs, *kernel = shape_of(call.args[1])
    is_depthwise = call.attrs.groups > 1 and inputs == 1
    return max(kernel) > 1 and max(inputs, outputs) >= FEWEST_CHANNELS and not is_depthwise


def _is_core(graph: Graph, var: relax.Var) -> bool:
    """Whether it is what a decomposition left in the middle."""
    before = Convolution.at(graph, graph.value[var].args[0])
    behind = (Convolution.at(graph, user) for user in graph.users[var])
    return _is_named(before, f"{var.name}.in") or any(_is_named(c, f"{var.name}.out") for c in behind)


def _is_named(convolution: Convolution | None, name: str) -> bool:
    return convolution is not None and convolution.kernel == (1, 1) and convolution.name.startswith(name)


def _merge(convolution: Convolution, ranks: Ranks) -> Merge:
    outputs, inputs = convolution.weight.shape[:2]
    name = convolution.name
    into = (f"{name}.in",) if ranks[0] < inputs else ()
    out = (f"{name}.out",) if ranks[1] < outputs else ()
    return Merge(
        name=name,
        kind=Kind.TUCKER,
        layers=(name,),
        removed=(),
        touches=frozenset({convolution.var}),
        replacements={convolution.var: lambda emit: _emit(emit, convolution, ranks)},
        reborn=(*into, name, *out),
        ranks=ranks,
    )


def _emit(emit: Emitter, convolution: Convolution, ranks: Ranks) -> relax.Var:
    factors: Factors = decompose(convolution.weight, ranks)
    name, source = convolution.name, emit(convolution.source)
    if factors.into is not None:
        source = _emit_1x1(emit, f"{name}.in", source, factors.into, convolution)
    core = replace(convolution, weight=factors.core).emit(emit, source)
    return core if factors.out is None else _emit_1x1(emit, f"{name}.out", core, factors.out, convolution)


def _emit_1x1(emit: Emitter, name: str, source: relax.Expr, weight: np.ndarray, of: Convolution) -> relax.Var:
    return emit.layer(name, relax.op.nn.conv2d(source, constant(weight), out_dtype=of.out_dtype))
