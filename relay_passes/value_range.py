"""Between which bounds the values of a layer lie, as far as the layers that end in it tell.

A ReLU gives nothing below 0 and a clip nothing outside its bounds. Pools, concats and copies keep the bounds
of what they read; an average that counts the zeros of its padding reaches 0 too. Of all other layers nothing
is known.
"""

from __future__ import annotations

import math

from tvm import relax

from relay_passes.convolution import ChannelLayer
from relay_passes.graph import Constant, Graph, operator_of, variables

Range = tuple[float, float]
UNKNOWN: Range = (-math.inf, math.inf)
MADE: dict[str | None, Range] = {"nn.relu": (0.0, math.inf), "sigmoid": (0.0, 1.0)}
KEEPING = ("nn.max_pool2d", "nn.avg_pool2d", "concat", "split", "reshape", "permute_dims")


def value_range(graph: Graph, var: relax.Var) -> Range:
    """Bounds of every element of `var`, which may be infinite."""
    known: dict[relax.Var, Range] = {}
    pending = [var]
    while pending:
        current = pending[-1]
        sources = _kept_from(graph, current)
        unknown = [source for source in sources if source not in known]
        if unknown:
            pending += unknown
            continue
        known[pending.pop()] = _range(graph.value.get(current), [known[source] for source in sources])
    return known[var]


def is_unchanged_by(layer: ChannelLayer, values: Range) -> bool:
    """Whether an activation gives back every value of a range, a scale or slope of 1 taken for granted."""
    low, high = values
    if layer.operator == "clip":
        bounds = [float(bound.value) for bound in layer.call.args[1:]]
        return bounds[0] <= low and high <= bounds[1]
    return layer.is_scale or (layer.operator in ("nn.relu", "nn.leakyrelu", "nn.prelu") and low >= 0)


def _kept_from(graph: Graph, var: relax.Var) -> list[relax.Var]:
    """The layers whose bounds a layer keeps."""
    value = graph.value.get(var)
    keeps = not isinstance(value, relax.Call) or operator_of(value) in KEEPING
    return variables(value) if value is not None and keeps and not _reads_constants(value) else []


def _reads_constants(value: relax.Expr) -> bool:
    if isinstance(value, relax.Call | relax.Tuple):
        return any(map(_reads_constants, value.args if isinstance(value, relax.Call) else value.fields))
    return isinstance(value, Constant)


def _range(value: relax.Expr | None, sources: list[Range]) -> Range:
    operator = operator_of(value)
    if operator == "clip":
        low, high = (float(bound.value) for bound in value.args[1:])
        return low, high
    if not sources:
        return MADE.get(operator, UNKNOWN)
    low, high = min(low for low, _ in sources), max(high for _, high in sources)
    counts_padding = operator == "nn.avg_pool2d" and value.attrs.count_include_pad
    return (min(low, 0.0), max(high, 0.0)) if counts_padding else (low, high)
