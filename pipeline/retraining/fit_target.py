"""What a reborn convolution shall compute, read off the graph.

From the convolution the way leads over its bias, an activation that only bounds (ReLU, clip), and splits and
concats of channels, to a layer that stands for one of the original. Each of its channels then has a value to
reach, inside the bounds of the activation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tvm import relax

from relay_passes.convolution import ChannelLayer, Convolution
from relay_passes.graph import Graph, shape_of


@dataclass(frozen=True)
class Piece:
    """Channels `start` to `stop` of the convolution are those of `layer` from `at` on."""

    start: int
    stop: int
    layer: str
    at: int


@dataclass(frozen=True)
class FitTarget:
    """A convolution, the layer that adds its bias, its activation's bounds, and where its channels go."""

    convolution: Convolution
    bias: str | None
    low: float
    high: float
    pieces: tuple[Piece, ...]


def fit_target(graph: Graph, name: str, ends: Mapping[str, object]) -> FitTarget | None:
    """What the convolution `name` shall compute, if the way from it leads to layers of `ends` only."""
    var = next((var for var in graph.layers if var.name == name), None)
    convolution = None if var is None else Convolution.at(graph, var)
    if convolution is None:
        return None
    bias, low, high = None, -math.inf, math.inf
    while var.name not in ends and graph.has_one_user(var):
        layer = ChannelLayer.at(graph, graph.users[var][0])
        bounds = None if layer is None else _bounds(layer)
        is_unbounded = (low, high) == (-math.inf, math.inf)
        if bounds is not None and is_unbounded:
            low, high = bounds
        elif layer is not None and layer.operator == "add" and bias is None and is_unbounded:
            bias = layer.name
        else:
            break
        var = layer.var
    channels = len(convolution.weight)
    pieces = tuple(_pieces(graph, var, 0, channels, 0, ends))
    if sum(piece.stop - piece.start for piece in pieces) != channels:
        return None
    return FitTarget(convolution, bias, low, high, pieces)


def _bounds(layer: ChannelLayer) -> tuple[float, float] | None:
    if layer.operator == "nn.relu":
        return 0.0, math.inf
    if layer.operator == "clip":
        return tuple(float(limit.value) for limit in layer.call.args[1:])
    return None


def _pieces(
    graph: Graph, var: relax.Var, start: int, stop: int, at: int, ends: Mapping[str, object]
) -> Iterator[Piece]:
    """Where channels `at` to `at + stop - start` of `var`, the convolution's `start` to `stop`, end up."""
    if var.name in ends:
        yield Piece(start, stop, var.name, at)
        return
    for user in graph.users[var]:
        parts = graph.joined_channels(user)
        if parts is not None:
            before = parts[: [part.same_as(var) for part in parts].index(True)]
            offset = sum(shape_of(part)[1] for part in before)
            yield from _pieces(graph, user, start, stop, at + offset, ends)
        elif graph.call(user, "split") is not None:
            yield from _split(graph, user, start, ends)


def _split(graph: Graph, split: relax.Var, start: int, ends: Mapping[str, object]) -> Iterator[Piece]:
    sizes = [int(field.shape[1]) for field in split.ty.fields]
    for item in graph.users[split]:
        index = int(graph.value[item].index)
        first = start + sum(sizes[:index])
        yield from _pieces(graph, item, first, first + sizes[index], 0, ends)
