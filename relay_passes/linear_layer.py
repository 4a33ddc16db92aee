"""Layers with constant weights of any kind, as folding sees them.

Convolutions of one to three axes, plain and transposed, and dense layers of vectors are linear in their
input, and each output channel (axis 1) has weights of its own. Where those stand:

    convolution              (O, I / groups, ...)
    transposed convolution   (I, O / groups, ...), the inputs and the outputs of one group belonging together
    dense                    (I, O)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.convolution import ChannelLayer, several_users, tail_of, why_no_weights
from relay_passes.graph import Emitter, Graph, array_of, operator_of
from relay_passes.layer_table import CONVOLUTIONS, TENSOR_LAYERS, TRANSPOSED_CONVOLUTIONS
from relay_passes.merge import Refused

AXES = {1: "W", 2: "HW", 3: "DHW"}
CHANNELS_FIRST = {
    **{name: (f"NC{AXES[rank]}", f"OI{AXES[rank]}") for rank, name in enumerate(CONVOLUTIONS, 1)},
    **{name: (f"NC{AXES[rank]}", f"IO{AXES[rank]}") for rank, name in enumerate(TRANSPOSED_CONVOLUTIONS, 1)},
}
"""Layout of the data and of the kernel for each operator."""


@dataclass(frozen=True)
class LinearLayer:
    """A layer that multiplies its input with a constant `weight` of real numbers."""

    var: relax.Var
    call: relax.Call
    weight: np.ndarray

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> LinearLayer | None:
        """The linear layer that computes `var`, or None."""
        call = graph.call(var, *TENSOR_LAYERS)
        weight = array_of(call.args[1]) if call is not None else None
        if weight is None or not np.issubdtype(weight.dtype, np.floating):
            return None
        is_ours = _is_dense(call) or _is_channels_first(call)
        return cls(var, call, weight) if is_ours else None

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.var.name

    @property
    def source(self) -> relax.Expr:
        """What the layer reads."""
        return self.call.args[0]

    def scaled(self, by: np.ndarray) -> LinearLayer:
        """The layer whose outputs are multiplied with `by`, one number for each output channel."""
        by = by.reshape(-1)
        return replace(self, weight=(self.weight * self._per_weight(by)).astype(self.weight.dtype))

    def emit(self, emit: Emitter, source: relax.Expr) -> relax.Var:
        """Add the layer over `source` (a new expression) under its name."""
        return emit.layer(
            self.name, relax.Call(self.call.op, [source, constant(self.weight)], self.call.attrs)
        )

    def _per_weight(self, by: np.ndarray) -> np.ndarray:
        """The number of each output channel, shaped to multiply the weight."""
        operator, taps = operator_of(self.call), (1,) * (self.weight.ndim - 2)
        if operator in CONVOLUTIONS:
            return by.reshape(-1, 1, *taps)
        groups = int(self.call.attrs.groups) if operator in TRANSPOSED_CONVOLUTIONS else 1
        inputs = self.weight.shape[0] // groups
        return np.repeat(by.reshape(groups, -1), inputs, axis=0).reshape(groups * inputs, -1, *taps)


@dataclass(frozen=True)
class LinearBlock:
    """A linear layer and the channel-wise layers behind it, in order."""

    layer: LinearLayer
    bias: ChannelLayer | None
    rest: tuple[ChannelLayer, ...]

    @property
    def vars(self) -> tuple[relax.Var, ...]:
        """All its layers."""
        bias = () if self.bias is None else (self.bias.var,)
        return (self.layer.var, *bias, *(layer.var for layer in self.rest))


def own_linear_block(graph: Graph, var: relax.Expr) -> LinearBlock | Refused:
    """The linear layer with the channel-wise layers that end in `var` and that one layer alone reads."""
    start, tail = tail_of(graph, var)
    layer = LinearLayer.at(graph, start)
    if layer is None:
        return why_no_weights(graph, start, *TENSOR_LAYERS)
    refused = several_users(graph, start, tail)
    if refused is not None:
        return refused
    has_bias = bool(tail) and tail[0].operator == "add"
    return LinearBlock(layer, tail[0], tail[1:]) if has_bias else LinearBlock(layer, None, tail)


def _is_dense(call: relax.Call) -> bool:
    return operator_of(call) == "matmul" and call.ty.ndim == call.args[0].ty.ndim == call.args[1].ty.ndim == 2


def _is_channels_first(call: relax.Call) -> bool:
    layouts = CHANNELS_FIRST.get(operator_of(call))
    attributes = call.attrs
    return layouts is not None and (
        (attributes.data_layout, attributes.kernel_layout, attributes.out_layout) == (*layouts, layouts[0])
    )
