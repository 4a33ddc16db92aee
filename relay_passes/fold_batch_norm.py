"""Fold scales and shifts of channels - batch norm, Caffe's Scale - into the convolution beside them. Exact.

Behind a convolution, also through its bias and, for positive scales, through a (leaky, parametric) ReLU:

    s * (W x + b) = (s W) x + s b          (W x + b) + t = W x + (b + t)          s * relu(y) = relu(s * y)

In front of a convolution, also through an average pool and, for positive scales, a max pool or a ReLU:

    W (s * x) = (W s) x                    W (x + t) + b = W x + (b + sum of W t)

A shift can't cross zero padding: the padding would have to be -t.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution, own_block
from relay_passes.graph import Emitter, Graph, operator_of
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal

POSITIVE_HOMOGENEOUS = ("nn.relu", "nn.leakyrelu", "nn.prelu")


@tvm.transform.module_pass(opt_level=0, name="FoldBatchNorm")
class FoldBatchNorm:
    """Make the folds of a plan."""

    def __init__(self, plan: MergePlan):
        self.plan = plan

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Fold each scale and shift that the plan names."""
        return make_planned(module, find_folds, self.plan)


def find_folds(graph: Graph) -> Findings:
    """Scales and shifts that fold into a convolution; refusals for those that don't."""
    scales = (scale for var in graph.layers if (scale := _scale(graph, var)) is not None)
    return Findings.sorted_out(_fold(graph, scale) for scale in scales)


def _scale(graph: Graph, var: relax.Var) -> ChannelLayer | None:
    """The multiplication or addition at `var`, unless it is a convolution's own bias."""
    layer = ChannelLayer.at(graph, var)
    if layer is None or not layer.is_scale or not isinstance(layer.source, relax.Var):
        return None
    is_bias = layer.operator == "add" and Convolution.at(graph, layer.source) is not None
    return None if is_bias else layer


def _fold(graph: Graph, scale: ChannelLayer) -> Merge | Refusal:
    behind = _fold_behind(graph, scale)
    if isinstance(behind, Merge):
        return behind
    in_front = _fold_in_front(graph, scale)
    if isinstance(in_front, Merge):
        return in_front
    refused = in_front if behind[0] is Reason.NO_CONVOLUTION else behind
    return refusal(scale.name, Kind.FOLD, (scale.name,), refused)


def _fold_behind(graph: Graph, scale: ChannelLayer) -> Merge | Refused:
    """The convolution in front takes the scale."""
    block = own_block(graph, scale.source)
    if not isinstance(block, ConvBlock):
        return block
    for layer in reversed(block.activations):
        if layer.is_scale:
            return Reason.NOT_LINEAR, f"it has to wait for {layer.name}"
        if scale.operator == "add" or layer.operator not in POSITIVE_HOMOGENEOUS:
            return Reason.NOT_LINEAR, f"it can't cross {layer.name}"
        if (scale.by < 0).any():
            return Reason.SIGN, f"a negative scale can't cross {layer.name}"
    return Merge(
        name=scale.name,
        kind=Kind.FOLD,
        layers=(block.convolution.name, scale.name),
        removed=(scale.name,),
        touches=frozenset({*block.vars, scale.var}),
        replacements={scale.var: lambda emit: _emit_behind(emit, scale, block)},
    )


def _emit_behind(emit: Emitter, scale: ChannelLayer, block: ConvBlock) -> relax.Expr:
    convolution, by = block.convolution, scale.by
    bias = np.zeros_like(by) if block.bias is None else block.bias
    if scale.operator == "multiply":
        convolution = replace(convolution, weight=convolution.weight * by.reshape(-1, 1, 1, 1))
        bias = bias * by
    else:
        bias = bias + by
    var = _with_bias(emit, convolution.emit(emit, emit(convolution.source)), bias)
    for layer in block.activations:
        var = layer.emit(emit, var)
    return var


def _fold_in_front(graph: Graph, scale: ChannelLayer) -> Merge | Refused:
    """The convolution that reads the scale's result takes it."""
    crossed: list[relax.Var] = []
    var = scale.var
    while True:
        if not graph.users[var]:
            return Reason.NO_CONVOLUTION, f"no layer reads {var.name}"
        if not graph.has_one_user(var):
            return Reason.SEVERAL_USERS, f"{var.name} is read by several layers or leaves the network"
        var = graph.users[var][0]
        convolution = Convolution.at(graph, var)
        if convolution is not None:
            break
        refused = _cannot_cross(graph, scale, var)
        if refused is not None:
            return refused
        crossed.append(var)
    if scale.operator == "add" and any(convolution.padding):
        return Reason.ZERO_PADDING, f"a shift can't cross the zero padding of {convolution.name}"
    block = _with_own_bias(graph, convolution)
    return Merge(
        name=scale.name,
        kind=Kind.FOLD,
        layers=(convolution.name, scale.name),
        removed=(scale.name,),
        touches=frozenset({scale.var, *crossed, *block.vars}),
        replacements={block.vars[-1]: lambda emit: _emit_in_front(emit, graph, scale, crossed, block)},
    )


def _cannot_cross(graph: Graph, scale: ChannelLayer, var: relax.Var) -> Refused | None:
    operator = operator_of(graph.value[var])
    if operator == "nn.avg_pool2d":
        attributes = graph.value[var].attrs
        pads = any(int(width) for width in attributes.padding) and bool(attributes.count_include_pad)
        if scale.operator == "add" and (pads or bool(attributes.ceil_mode)):
            return Reason.ZERO_PADDING, f"a shift can't cross the zero padding of {var.name}"
        return None
    if operator == "nn.max_pool2d" and scale.operator == "add":
        return None
    if operator in ("nn.max_pool2d", *POSITIVE_HOMOGENEOUS) and scale.operator == "multiply":
        is_negative = bool((scale.by < 0).any())
        return (Reason.SIGN, f"a negative scale can't cross {var.name}") if is_negative else None
    return Reason.NO_CONVOLUTION, f"it is followed by {var.name}, not by a convolution"


def _with_own_bias(graph: Graph, convolution: Convolution) -> ConvBlock:
    """The convolution and the layer that adds its bias, if there is one."""
    if graph.has_one_user(convolution.var):
        layer = ChannelLayer.at(graph, graph.users[convolution.var][0])
        if layer is not None and layer.operator == "add":
            return ConvBlock(convolution, (layer,))
    return ConvBlock(convolution, ())


def _emit_in_front(
    emit: Emitter, graph: Graph, scale: ChannelLayer, crossed: list[relax.Var], block: ConvBlock
) -> relax.Expr:
    source = emit(scale.source)
    for var in crossed:
        call = graph.value[var]
        source = emit.layer(var.name, relax.Call(call.op, [source, *call.args[1:]], call.attrs))
    convolution = block.convolution
    by = _per_kernel_input(convolution, scale.by)
    if scale.operator == "multiply":
        return block.with_convolution(weight=convolution.weight * by).emit(emit, source)
    shift = (convolution.weight.astype("float64") * by).sum(axis=(1, 2, 3)).astype(scale.by.dtype)
    bias = shift.reshape(1, -1, 1, 1) + (0 if block.bias is None else block.bias)
    return _with_bias(emit, convolution.emit(emit, source), bias)


def _per_kernel_input(convolution: Convolution, by: np.ndarray) -> np.ndarray:
    """The constant of each input channel, shaped (O, I / groups, 1, 1) like the kernel."""
    outputs, inputs = convolution.weight.shape[:2]
    of_group = by.reshape(convolution.groups, inputs)
    return np.repeat(of_group, outputs // convolution.groups, axis=0).reshape(outputs, inputs, 1, 1)


def _with_bias(emit: Emitter, convolution: relax.Var, bias: np.ndarray) -> relax.Var:
    if not bias.any():
        return convolution
    return emit.layer(f"{convolution.name}.bias", relax.op.add(convolution, constant(bias)))
