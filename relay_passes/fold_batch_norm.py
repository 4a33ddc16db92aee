"""Fold scales and shifts of channels - batch norm, Caffe's Scale - into the layer beside them. Exact.

Behind a convolution of any kind or a dense layer, also through its bias and, for positive scales, through a
(leaky, parametric) ReLU:

    s * (W x + b) = (s W) x + s b          (W x + b) + t = W x + (b + t)          s * relu(y) = relu(s * y)

In front of an `nn.conv2d`, also through an average pool and, for positive scales, a max pool or a ReLU:

    W (s * x) = (W s) x                    W (x + t) + b = W x + (b + sum of W t)

A shift can't cross zero padding: the padding would have to be -t.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution
from relay_passes.graph import Emitter, Graph, array_of, operator_of
from relay_passes.linear_layer import LinearBlock, LinearLayer, own_linear_block
from relay_passes.merge import Findings, Merge, Refused, make_planned, refusal
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal
from relay_passes.pooling import Pool

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
    """Scales and shifts that fold into a layer with weights; refusals for those of images that don't."""
    scales = (scale for var in graph.layers if (scale := _scale(graph, var)) is not None)
    return Findings.sorted_out(found for scale in scales if (found := _fold(graph, scale)) is not None)


def _scale(graph: Graph, var: relax.Var) -> ChannelLayer | None:
    """The multiplication or addition at `var`, unless it is the bias of the layer in front."""
    layer = ChannelLayer.at(graph, var)
    if layer is None or not layer.is_scale or not isinstance(layer.source, relax.Var):
        return None
    is_bias = layer.operator == "add" and LinearLayer.at(graph, layer.source) is not None
    return None if is_bias else layer


def _fold(graph: Graph, scale: ChannelLayer) -> Merge | Refusal | None:
    behind = _fold_behind(graph, scale)
    if isinstance(behind, Merge):
        return behind
    in_front = _fold_in_front(graph, scale)
    if isinstance(in_front, Merge):
        return in_front
    if behind[0] is Reason.NO_CONVOLUTION and scale.call.ty.ndim != 4:
        return None
    refused = in_front if behind[0] is Reason.NO_CONVOLUTION else behind
    return refusal(scale.name, Kind.FOLD, (scale.name,), refused)


def _fold_behind(graph: Graph, scale: ChannelLayer) -> Merge | Refused:
    """The layer in front takes the scale."""
    block = own_linear_block(graph, scale.source)
    if not isinstance(block, LinearBlock):
        return block
    for layer in reversed(block.rest):
        if layer.is_scale:
            return Reason.NOT_LINEAR, f"it has to wait for {layer.name}"
        if scale.operator == "add" or layer.operator not in POSITIVE_HOMOGENEOUS:
            return Reason.NOT_LINEAR, f"it can't cross {layer.name}"
        if (scale.by < 0).any():
            return Reason.SIGN, f"a negative scale can't cross {layer.name}"
    return Merge(
        name=scale.name,
        kind=Kind.FOLD,
        layers=(block.layer.name, scale.name),
        removed=(scale.name,),
        touches=frozenset({*block.vars, scale.var}),
        replacements={scale.var: lambda emit: _emit_behind(emit, scale, block)},
    )


def _emit_behind(emit: Emitter, scale: ChannelLayer, block: LinearBlock) -> relax.Expr:
    layer, by = block.layer, scale.by
    bias = np.zeros_like(by) if block.bias is None else block.bias.by
    if scale.operator == "multiply":
        layer, bias = layer.scaled(by), bias * by
    else:
        bias = bias + by
    var = _with_bias(emit, layer.emit(emit, emit(layer.source)), bias)
    for activation in block.rest:
        var = activation.emit(emit, var)
    return var


def _fold_in_front(graph: Graph, scale: ChannelLayer) -> Merge | Refused:
    """The `nn.conv2d` that reads the scale's result takes it."""
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
    call, is_shift = graph.value[var], scale.operator == "add"
    operator = operator_of(call)
    if operator == "nn.conv2d" and array_of(call.args[1]) is None:
        return Reason.DYNAMIC, f"the weights of {var.name} are computed at run time"
    if operator == "nn.avg_pool2d" and Pool.at(graph, var) is not None:
        pads = any(int(width) for width in call.attrs.padding) and bool(call.attrs.count_include_pad)
        if is_shift and (pads or bool(call.attrs.ceil_mode)):
            return Reason.ZERO_PADDING, f"a shift can't cross the zero padding of {var.name}"
        return None
    is_max_pool = operator == "nn.max_pool2d" and Pool.at(graph, var) is not None
    if is_max_pool and is_shift:
        return None
    if not is_shift and (is_max_pool or operator in POSITIVE_HOMOGENEOUS):
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
        weight = (convolution.weight * by).astype(convolution.weight.dtype)
        return block.with_convolution(weight=weight).emit(emit, source)
    shift = (convolution.weight.astype("float64") * by).sum(axis=(1, 2, 3)).astype(scale.by.dtype)
    bias = shift.reshape(1, -1, 1, 1) + (0 if block.bias is None else block.bias)
    return _with_bias(emit, convolution.emit(emit, source), bias)


def _per_kernel_input(convolution: Convolution, by: np.ndarray) -> np.ndarray:
    """The constant of each input channel, shaped (O, I / groups, 1, 1) like the kernel."""
    outputs, inputs = convolution.weight.shape[:2]
    of_group = by.reshape(convolution.groups, inputs)
    return np.repeat(of_group, outputs // convolution.groups, axis=0).reshape(outputs, inputs, 1, 1)


def _with_bias(emit: Emitter, layer: relax.Var, bias: np.ndarray) -> relax.Var:
    if not bias.any():
        return layer
    bias = constant(bias.astype(str(layer.ty.dtype)))
    return emit.layer(f"{layer.name}.bias", relax.op.add(layer, bias))
