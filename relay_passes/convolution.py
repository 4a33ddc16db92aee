"""Convolutions and the channel-wise layers behind them, as passes handle them.

A *conv block* is an `nn.conv2d` with constant weights followed by layers that treat each element of a channel
alike (bias, scale, activation). Merges change its kernel, stride and padding and leave the rest as it is.
While they do, a padding may be negative: it is emitted as a slice of the input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.canonicalize.respell_scale import aligned
from relay_passes.graph import Emitter, Graph, array_of, operator_of, shape_of
from relay_passes.merge import Refused
from relay_passes.merge_plan import Reason

ACTIVATIONS = ("nn.relu", "clip", "nn.leakyrelu", "nn.prelu", "sigmoid", "tanh", "nn.silu", "nn.gelu")
SCALES = ("multiply", "add")
LAYOUTS = ("NCHW", "OIHW", "NCHW")


@dataclass(frozen=True)
class Convolution:
    """An `nn.conv2d` in NCHW with a constant kernel (O, I / groups, KH, KW) of real numbers.

    `padding` is top, left, bottom, right; `out_dtype` is that of the operator, usually None.
    """

    var: relax.Var
    source: relax.Expr
    weight: np.ndarray
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    out_dtype: str | None

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> Convolution | None:
        """The convolution that computes `var`, or None."""
        call = graph.call(var, "nn.conv2d")
        weight = array_of(call.args[1]) if call is not None else None
        if weight is None or not np.issubdtype(weight.dtype, np.floating):
            return None
        attributes = call.attrs
        if (attributes.data_layout, attributes.kernel_layout, attributes.out_layout) != LAYOUTS:
            return None
        return cls(
            var,
            call.args[0],
            weight,
            tuple(int(s) for s in attributes.strides),
            tuple(int(p) for p in attributes.padding),
            tuple(int(d) for d in attributes.dilation),
            int(attributes.groups),
            attributes.out_dtype,
        )

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.var.name

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel in taps."""
        return self.weight.shape[2:]

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the input that one output reads: the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def emit(self, emit: Emitter, source: relax.Expr) -> relax.Var:
        """Add the convolution of `source` (a new expression) under its name, cropped if need be."""
        call = relax.op.nn.conv2d(
            self._cropped(emit, source),
            constant(self.weight),
            strides=self.strides,
            padding=[max(width, 0) for width in self.padding],
            dilation=self.dilation,
            groups=self.groups,
            out_dtype=self.out_dtype,
        )
        return emit.layer(self.name, call)

    def _cropped(self, emit: Emitter, source: relax.Expr) -> relax.Expr:
        """What is left of `source` where the padding is negative."""
        if min(self.padding) >= 0:
            return source
        before, behind = self.padding[:2], self.padding[2:]
        begin = [max(-width, 0) for width in before]
        end = [n + min(width, 0) for n, width in zip(shape_of(source)[2:], behind, strict=True)]
        return emit.layer(f"{self.name}.crop", relax.op.strided_slice(source, [2, 3], begin, end))


@dataclass(frozen=True)
class ChannelLayer:
    """A layer on (N, C, ...) that treats each element of a channel alike and keeps the shape.

    `by` is its constant, (1, C, 1, ...) or (C,) for the slopes of a PReLU, or None.
    """

    var: relax.Var
    call: relax.Call
    by: np.ndarray | None

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> ChannelLayer | None:
        """The channel-wise layer that computes `var`, or None."""
        call = graph.call(var, *ACTIVATIONS, *SCALES)
        if call is None or call.ty.ndim < 2 or shape_of(call) != shape_of(call.args[0]):
            return None
        channels, rank = shape_of(call)[1], call.ty.ndim
        if operator_of(call) in SCALES:
            by = array_of(call.args[1])
            by = None if by is None or by.ndim > rank else aligned(by, rank)
            is_by_channel = by is not None and by.shape == (1, channels, *(1,) * (rank - 2))
            return cls(var, call, by) if is_by_channel else None
        if operator_of(call) == "nn.prelu":
            by = array_of(call.args[1])
            is_by_channel = by is not None and by.shape == (channels,) and int(call.attrs.axis) == 1
            return cls(var, call, by) if is_by_channel else None
        return cls(var, call, None)

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.var.name

    @property
    def operator(self) -> str:
        """The operator's name."""
        return operator_of(self.call)

    @property
    def is_scale(self) -> bool:
        """Whether it multiplies with a constant or adds one."""
        return self.operator in SCALES

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
        start, tail = tail_of(graph, var)
        convolution = Convolution.at(graph, start)
        if convolution is None:
            return None
        block = cls(convolution, tail)
        return block if all(graph.has_one_user(var) for var in block.vars[:-1]) else None

    @property
    def vars(self) -> tuple[relax.Var, ...]:
        """The convolution and the layers behind it."""
        return (self.convolution.var, *(layer.var for layer in self.tail))

    @property
    def has_bias(self) -> bool:
        """Whether the first layer behind the convolution adds a constant."""
        return bool(self.tail) and self.tail[0].operator == "add"

    @property
    def bias(self) -> np.ndarray | None:
        """The bias (1, C, 1, 1) added first, if there is one."""
        return self.tail[0].by if self.has_bias else None

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


def tail_of(graph: Graph, var: relax.Expr) -> tuple[relax.Expr, tuple[ChannelLayer, ...]]:
    """What stands in front of the channel-wise layers that end in `var`, and those layers in order."""
    tail: list[ChannelLayer] = []
    while (layer := ChannelLayer.at(graph, var)) is not None:
        tail.insert(0, layer)
        var = layer.source
    return var, tuple(tail)


def own_block(graph: Graph, var: relax.Expr) -> ConvBlock | Refused:
    """The conv block that ends in `var` and that one layer alone reads, or why there is none."""
    start, tail = tail_of(graph, var)
    convolution = Convolution.at(graph, start)
    if convolution is None:
        return why_no_weights(graph, start, "nn.conv2d")
    return several_users(graph, start, tail) or ConvBlock(convolution, tail)


def why_no_weights(graph: Graph, var: relax.Expr, *operators: str) -> Refused:
    """Why `var`, which should have been a layer of the `operators` with constant weights, is none."""
    call = graph.call(var, *operators)
    if call is not None and array_of(call.args[1]) is None:
        return Reason.DYNAMIC, f"the weights of {var.name} are computed at run time"
    return Reason.NO_CONVOLUTION, "no convolution with constant weights leads to it"


def several_users(graph: Graph, start: relax.Var, tail: tuple[ChannelLayer, ...]) -> Refused | None:
    """A refusal if anything but the next layer reads one of a row."""
    for var in (start, *(layer.var for layer in tail)):
        if not graph.has_one_user(var):
            return Reason.SEVERAL_USERS, f"{var.name} is read by several layers or leaves the network"
    return None
