"""Normalisations in ONNX."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.exporter.expression import Layer, Node, Tensor, Value, Weight, node, reshaped
from pipeline.twin.operators import ints


def batch_norm(layer: Layer) -> tuple[Value, ...]:
    """BatchNormalization with fixed statistics; they are passed on as the other two results."""
    x, gamma, beta, mean, variance = layer.args
    attrs = layer.attrs
    if attrs.training:
        raise NotImplementedError("batch norm in training mode")
    if int(attrs.axis) % len(x.shape) != 1:
        raise NotImplementedError("batch norm over another axis than the channels")
    scale = gamma if attrs.scale else _filled(1, gamma)
    shift = beta if attrs.center else _filled(0, beta)
    y = node("BatchNormalization", x, scale, shift, mean, variance, epsilon=float(attrs.epsilon))
    return y, mean, variance


def layer_norm(layer: Layer) -> Node:
    """LayerNormalization over the last axes."""
    x, gamma, beta = layer.args
    attrs, rank = layer.attrs, len(x.shape)
    axes = sorted(axis % rank for axis in ints(attrs.axes))
    if axes != list(range(axes[0], rank)):
        raise NotImplementedError("layer norm over others than the last axes")
    scale = gamma if attrs.scale else _filled(1, gamma)
    shift = (beta,) if attrs.center else ()
    return node("LayerNormalization", x, scale, *shift, axis=axes[0], epsilon=float(attrs.epsilon))


def instance_norm(layer: Layer) -> Node:
    """InstanceNormalization of the channels."""
    x, gamma, beta = layer.args
    attrs, rank = layer.attrs, len(x.shape)
    if int(attrs.channel_axis) % rank != 1 or {axis % rank for axis in ints(attrs.axes)} != {*range(2, rank)}:
        raise NotImplementedError("instance norm over other axes than those of an image")
    scale = gamma if attrs.scale else _filled(1, gamma)
    shift = beta if attrs.center else _filled(0, beta)
    return node("InstanceNormalization", x, scale, shift, epsilon=float(attrs.epsilon))


def group_norm(layer: Layer) -> Value:
    """The groups as the channels of an InstanceNormalization, then scale and shift of the real channels."""
    x, gamma, beta = layer.args
    attrs, rank = layer.attrs, len(x.shape)
    if int(attrs.channel_axis) % rank != 1 or {axis % rank for axis in ints(attrs.axes)} != {*range(2, rank)}:
        raise NotImplementedError("group norm over other axes than those of an image")
    groups = int(attrs.num_groups)
    ones, zeros = (
        Weight(np.full(groups, value, x.dtype), role) for value, role in ((1, "ones"), (0, "zeros"))
    )
    y = node(
        "InstanceNormalization",
        reshaped(x, (x.shape[0], groups, -1)),
        ones,
        zeros,
        epsilon=float(attrs.epsilon),
    )
    y = reshaped(y, x.shape)
    by_channel = (x.shape[1], *(1,) * (rank - 2))
    y = node("Mul", y, reshaped(gamma, by_channel)) if attrs.scale else y
    return node("Add", y, reshaped(beta, by_channel)) if attrs.center else y


def local_response_norm(layer: Layer) -> Node:
    """LRN; ONNX divides `alpha` by `size` as the composite does."""
    (x,) = layer.args
    attrs: Mapping[str, float] = layer.attrs
    return node(
        "LRN",
        x,
        size=int(attrs["size"]),
        **{name: float(attrs[name]) for name in ("alpha", "beta", "bias")},
    )


def _filled(value: float, like: Tensor) -> Weight:
    return Weight(np.full(like.shape, value, like.dtype), "ones" if value else "zeros")
