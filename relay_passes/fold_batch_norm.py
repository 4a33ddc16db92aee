"""Fold scales and shifts of channels - batch norm, Caffe's Scale - into the convolution beside them. Exact.

Behind a convolution, also through its bias and, for positive scales, through a (leaky, parametric) ReLU:

    s * (W x + b) = (s W) x + s b          (W x + b) + t = W x + (b + t)          s * relu(y) = relu(s * y)

In front of a convolution, also through an average pool and, for positive scales, a max pool or a ReLU:

    W (s * x) = (W s) x                    W (x + t) + b = W x + (b + sum of W t)

A shift can't cross zero padding: the padding would have to be -t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.convolution import ChannelLayer, ConvBlock, Convolution
from relay_passes.graph import Emitter, Graph, operator_of
from relay_passes.merge import Findings, Merge, merge_by_name
from relay_passes.merge_plan import Kind, MergePlan, Reason, Refusal

POSITIVE_HOMOGENEOUS = ("nn.relu", "nn.leakyrelu", "nn.prelu")
Refused = tuple[Reason, str]


@tvm.transform.module_pass(opt_level=0, name="FoldBatchNorm")
class FoldBatchNorm:
    """Make the folds of a plan."""

    def __init__(self, plan: MergePlan):
        self.names = plan.names(Kind.FOLD)

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Fold each scale and shift that the plan names."""
        return merge_by_name(module, find_folds, self.names)


def find_folds(graph: Graph) -> Findings:
    """Scales and shifts that fold into a convolution; refusals for those that don't."""
    merges, refusals = [], []
    for var in graph.layers:
        scale = _Scale.at(graph, var)
        if scale is None:
            continue
        found = _fold_behind(graph, scale)
        if not isinstance(found, Merge):
            forward = _fold_in_front(graph, scale)
            found = forward if isinstance(forward, Merge) else _more_telling(found, forward)
        if isinstance(found, Merge):
            merges.append(found)
        else:
            reason, detail = found
            refusals.append(
                Refusal(name=var.name, kind=Kind.FOLD, layers=(var.name,), reason=reason, detail=detail)
            )
    return Findings(tuple(merges), tuple(refusals))


@dataclass(frozen=True)
class _Scale:
    """A multiplication or addition of a constant of each channel that is no convolution's own bias."""

    var: relax.Var
    source: relax.Var
    operator: str
    by: np.ndarray

    @classmethod
    def at(cls, graph: Graph, var: relax.Var) -> _Scale | None:
        layer = ChannelLayer.at(graph, var)
        if (
            layer is None
            or layer.operator not in ("multiply", "add")
            or not isinstance(layer.source, relax.Var)
        ):
            return None
        is_bias = layer.operator == "add" and Convolution.at(graph, layer.source) is not None
        return None if is_bias else cls(var, layer.source, layer.operator, layer.by)

    @property
    def is_positive(self) -> bool:
        return bool((self.by > 0).all())


def _fold_behind(graph: Graph, scale: _Scale) -> Merge | Refused:
    """The convolution in front takes the scale."""
    block = ConvBlock.ending_at(graph, scale.source)
    if block is None:
        return Reason.NO_CONVOLUTION, "no convolution with constant weights leads to it alone"
    if not graph.has_one_user(scale.source):
        return Reason.SEVERAL_USERS, f"{scale.source.name} is read by other layers too"
    crossed = [layer for layer in block.activations if layer.operator not in ("multiply", "add")]
    if len(crossed) < len(block.activations):
        return Reason.NO_CONVOLUTION, f"{block.activations[-1].name} stands between"
    if crossed and scale.operator == "add":
        return Reason.NO_CONVOLUTION, f"a shift can't cross {crossed[-1].name}"
    if any(layer.operator not in POSITIVE_HOMOGENEOUS for layer in crossed):
        return Reason.NO_CONVOLUTION, f"a scale can't cross {crossed[-1].name}"
    if crossed and not scale.is_positive:
        return Reason.SIGN, f"a negative scale can't cross {crossed[-1].name}"
    return _merge(scale, block, lambda emit: _emit_behind(emit, scale, block))


def _emit_behind(emit: Emitter, scale: _Scale, block: ConvBlock) -> relax.Expr:
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


def _fold_in_front(graph: Graph, scale: _Scale) -> Merge | Refused:
    """The convolution that reads the scale's result takes it."""
    crossed: list[relax.Var] = []
    var = scale.var
    while True:
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
    end = _bias_layer(graph, convolution)
    block = ConvBlock.ending_at(graph, end)
    return _merge(scale, block, lambda emit: _emit_in_front(emit, graph, scale, crossed, block), end, crossed)


def _cannot_cross(graph: Graph, scale: _Scale, var: relax.Var) -> Refused | None:
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
        return None if scale.is_positive else (Reason.SIGN, f"a negative scale can't cross {var.name}")
    return Reason.NO_CONVOLUTION, f"it is followed by {var.name}, not by a convolution"


def _bias_layer(graph: Graph, convolution: Convolution) -> relax.Var:
    """The layer that adds the convolution's bias if there is one, else the convolution."""
    if graph.has_one_user(convolution.var):
        reader = graph.users[convolution.var][0]
        layer = ChannelLayer.at(graph, reader)
        if layer is not None and layer.operator == "add":
            return reader
    return convolution.var


def _emit_in_front(
    emit: Emitter, graph: Graph, scale: _Scale, crossed: list[relax.Var], block: ConvBlock
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


def _merge(
    scale: _Scale,
    block: ConvBlock,
    rewrite: Callable[[Emitter], relax.Expr],
    end: relax.Var | None = None,
    crossed: list[relax.Var] | None = None,
) -> Merge:
    return Merge(
        name=scale.var.name,
        kind=Kind.FOLD,
        layers=(block.convolution.name, scale.var.name),
        removed=(scale.var.name,),
        touches=frozenset({scale.var, scale.source, block.convolution.var, *(crossed or ())}),
        replacements={scale.var if end is None else end: rewrite},
    )


def _more_telling(behind: Refused, in_front: Refused) -> Refused:
    """Of two refusals the one that names something better than the lack of a convolution."""
    return in_front if behind[0] is Reason.NO_CONVOLUTION else behind
