"""Convolutions and the channel-wise layers behind them, as passes handle them.

A *conv block* is an `nn.conv2d` with constant weights followed by layers that treat each element of a channel
alike (bias, scale, activation). Merges change its kernel, stride and padding and leave the rest as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Emitter, Graph, array_of, operator_of, shape_of

ACTIVATIONS = ("nn.relu", "clip", "nn.leakyrelu", "nn.prelu", "sigmoid", "tanh", "nn.silu", "nn.gelu")
SCALES = ("multiply", "add")


@dataclass(frozen=True)
class Convolution:
    """An `nn.conv2d` in NCHW with a constant kernel (O, I / groups, KH, KW).

    `padding` is top, left, bottom, right.
    """

    var: relax.Var
    source: relax.Expr
    weight: np.ndarray
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> Convolution | None:
        """The convolution that computes `var`, or None."""
        call = graph.call(var, "nn.conv2d")
        weight = array_of(call.args[1]) if call is not None else None
        if weight is None:
            return None
        attributes = call.attrs
        return cls(
            var,
            call.args[0],
            weight,
            tuple(int(s) for s in attributes.strides),
            tuple(int(p) for p in attributes.padding),
            tuple(int(d) for d in attributes.dilation),
            int(attributes.groups),
        )

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.var.name

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the input that one output reads: the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.weight.shape[2:], self.dilation, strict=True))

    def emit(self, emit: Emitter, source: relax.Expr) -> relax.Var:
        """Add the convolution of `source` (a new expression) under its name."""
        call = relax.op.nn.conv2d(
            source,
            constant(self.weight),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return emit.layer(self.name, call)


@dataclass(frozen=True)
class ChannelLayer:
    """A layer behind a convolution that treats each element of a channel alike.

    `by` is its constant, (1, C, 1, 1) or (C,), or None.
    """

    name: str
    call: relax.Call
    by: np.ndarray | None

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> ChannelLayer | None:
        """The channel-wise layer that computes `var`, or None."""
        call = graph.call(var, *ACTIVATIONS, *SCALES)
        if call is None:
            return None
        if operator_of(call) in SCALES:
            by = array_of(call.args[1])
            if by is None or by.shape != (1, shape_of(call)[1], 1, 1):
                return None
            return cls(var.name, call, by)
        if operator_of(call) == "nn.prelu":
            by = array_of(call.args[1])
            return None if by is None else cls(var.name, call, by)
        return cls(var.name, call, None)

    @property
    def operator(self) -> str:
        """The operator's name."""
        return operator_of(self.call)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in its constant."""
        return 0 if self.operator == "nn.prelu" else 1

    @property
    def source(self) -> relax.Expr:
        """What the layer reads."""
        return self.call.args[0]

    def emit(self, emit: Emitter, source: relax.Expr) -> relax.Var:
        """Add the layer over `source` under its name."""
        rest = self.call.args[1:] if self.by is None else [constant(self.by)]
        return emit.layer(self.name, relax.Call(self.call.op, [source, *rest], self.call.attrs))


@dataclass(frozen=True)
class ConvBlock:
    """A convolution and the channel-wise layers behind it, in order."""

    convolution: Convolution
    tail: tuple[ChannelLayer, ...]

    @classmethod
    def ending_at(cls, graph: Graph, var: relax.Expr) -> ConvBlock | None:
        """The block whose last layer is `var`; every layer before it has one reader."""
        tail: list[ChannelLayer] = []
        while (layer := ChannelLayer.at(graph, var)) is not None:
            tail.append(layer)
            var = layer.source
            if var not in graph.value or not graph.has_one_user(var):
                return None
        convolution = Convolution.at(graph, var)
        return None if convolution is None else cls(convolution, tuple(reversed(tail)))

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the convolution and the layers behind it."""
        return (self.convolution.name, *(layer.name for layer in self.tail))

    @property
    def bias(self) -> np.ndarray | None:
        """The bias (1, C, 1, 1) added first, if there is one."""
        return self.tail[0].by if self.has_bias else None

    @property
    def has_bias(self) -> bool:
        """Whether the first layer behind the convolution adds a constant."""
        return bool(self.tail) and self.tail[0].operator == "add"

    @property
    def activations(self) -> tuple[ChannelLayer, ...]:
        """The layers behind the bias."""
        return self.tail[1:] if self.has_bias else self.tail

    def emit(self, emit: Emitter, source: relax.Expr) -> relax.Var:
        """Add all layers, the convolution reading `source` (a new expression)."""
        var = self.convolution.emit(emit, source)
        for layer in self.tail:
            var = layer.emit(emit, var)
        return var

    def with_convolution(self, **changes: object) -> ConvBlock:
        """The same block with fields of its convolution changed."""
        return replace(self, convolution=replace(self.convolution, **changes))
