"""How far float16 code may be from the same layers in torch, where each sums up in float32 and rounds once.

Code for a device rounds every addition of a float16 sum. A sum of n terms of random signs is then off by a
small multiple of u sqrt(n) of its size, with a probability close to one, where u = 2^-11 (Higham and Mary, A
New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41(5), 2019); 0.3 of it was seen.
Layers round independently, so the squares of their errors add up along the way through the network, and
trained layers pass on an error as they pass on a signal. With N the float16 roundings on the longest way, an
output (before a softmax or sigmoid) may differ by

    u sqrt(N)    of its largest magnitude.

A softmax of numbers that are off by d multiplies each of its outputs by e^(2 d) at most; its logarithm is off
by 2 d, a sigmoid by d / 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tvm
from tvm import relax

from pipeline.twin import evaluate
from pipeline.verification import tolerance_for
from relay_passes import squashing, strip_softmax
from relay_passes.graph import Graph, operator_of, shape_of
from relay_passes.to_float16 import AVERAGE_POOLS, CONVOLUTIONS, HALF, TRANSPOSED

UNIT_ROUNDOFF = 2.0**-11
_SQUASHED = {
    "softmax": lambda bound, largest: largest * min(1.0, math.expm1(2 * bound)),
    "logarithm": lambda bound, largest: 2 * bound,
    "sigmoid": lambda bound, largest: bound / 4,
}


def relative_tolerance(module: tvm.IRModule) -> float:
    """The difference allowed for an output before its softmax, relative to its largest magnitude."""
    graph = Graph(module)
    longest: dict[relax.Var, int] = dict.fromkeys((*graph.inputs, *graph.value), 0)
    for var in graph.layers:
        longest[var] += _roundings(graph, var)
        for reader in graph.users[var]:
            longest[reader] = max(longest[reader], longest[var])
    return UNIT_ROUNDOFF * math.sqrt(max(longest.values()))


def tolerances(
    module: tvm.IRModule, inputs: Sequence[np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """How far each output of a compiled network may be from its reference.

    Parameters
    ----------
    module : tvm.IRModule
        With float16 layers.
    inputs : sequence of numpy.ndarray
    reference : mapping of str to numpy.ndarray
        What the module computes for these inputs in torch, by the outputs' names.

    Returns
    -------
    dict of str to float
        Largest absolute differences; never below those for float32.
    """
    relative = relative_tolerance(module)
    before = evaluate(strip_softmax(module), inputs)
    found = {}
    for (name, output), logits, kind in zip(reference.items(), before, _squashed(module), strict=True):
        bound = relative * _largest(logits)
        allowed = _SQUASHED[kind](bound, _largest(output)) if kind else bound
        found[name] = max(allowed, tolerance_for(output))
    return found


def _roundings(graph: Graph, var: relax.Var) -> int:
    """How often a number is rounded to float16 on its way through a layer: once for each term of a sum."""
    if str(getattr(var.ty, "dtype", "")) != HALF:
        return 0
    call = graph.value[var]
    operator = operator_of(call)
    if operator in AVERAGE_POOLS:
        return math.prod(int(size) for size in call.attrs.pool_size)
    if operator not in (*CONVOLUTIONS, *TRANSPOSED):
        return 1
    first, second, *window = shape_of(call.args[1])
    channels = first // int(call.attrs.groups) if operator in TRANSPOSED else second
    return channels * math.prod(window)


def _squashed(module: tvm.IRModule) -> list[str | None]:
    """What each output comes from: a softmax, its logarithm, a sigmoid, or something else."""
    graph = Graph(module)
    return [
        "logarithm" if graph.call(output, "nn.log_softmax") is not None else kind
        for output, kind in zip(graph.outputs, squashing(module), strict=True)
    ]


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values.astype("float64")).max(initial=0.0))
