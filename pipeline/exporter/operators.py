"""What each Relax operator is in ONNX.

`OPERATORS` maps an operator's name (without `relax.`) to a function that reads the call (`Layer`) and returns
the ONNX expression of its result, or a tuple of them. It has an entry for every operator of the twin's table.
What an entry cannot say in ONNX it refuses with NotImplementedError and the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.exporter.expression import (
    Layer,
    Node,
    Output,
    Tensor,
    Value,
    Weight,
    element_type,
    integers,
    node,
    number,
    reshaped,
)
from pipeline.exporter.norms import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm
from pipeline.exporter.resize import resize
from pipeline.exporter.windows import (
    adaptive_average_pool,
    average_pool,
    convolution,
    max_pool,
    padded,
    transposed_convolution,
)
from pipeline.twin.operators import ints

Operator = Callable[[Layer], Value | tuple[Value, ...]]

TO_THE_START = -(2**63)
"""The end of a slice that runs backwards to the first element."""


def _plain(operator: str, **attributes: Any) -> Operator:
    return lambda layer: node(operator, *layer.args, **attributes)


def _of_x(build: Callable[[Tensor], Value]) -> Operator:
    return lambda layer: build(layer.args[0])


def _clipped(x: Tensor, low: float, high: float) -> Node:
    low_end = None if low == -math.inf else number(low, x.dtype, "min")
    high_end = () if high == math.inf else (number(high, x.dtype, "max"),)
    return node("Clip", x, low_end, *high_end)


def _gelu(x: Tensor) -> Node:
    """x / 2 (1 + erf(x / sqrt 2))."""
    erf = node("Erf", node("Mul", x, number(math.sqrt(0.5), x.dtype, "root")))
    return _half_of_product(x, erf)


def _gelu_tanh(x: Tensor) -> Node:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    cube = node("Mul", node("Mul", x, x), x)
    inner = node("Add", x, node("Mul", cube, number(0.044715, x.dtype, "cubic")))
    return _half_of_product(
        x, node("Tanh", node("Mul", inner, number(math.sqrt(2 / math.pi), x.dtype, "root")))
    )


def _half_of_product(x: Tensor, y: Node) -> Node:
    factor = node("Add", y, number(1, x.dtype, "one"))
    return node("Mul", node("Mul", x, number(0.5, x.dtype, "half")), factor)


def _softplus(layer: Layer) -> Node:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is beyond the threshold."""
    (x,) = layer.args
    beta, threshold = float(layer.attrs.beta), float(layer.attrs.threshold)
    scaled = x if beta == 1 else node("Mul", x, number(beta, x.dtype, "beta"))
    y = node("Softplus", scaled)
    y = y if beta == 1 else node("Div", y, number(beta, x.dtype, "beta"))
    if threshold >= 20:
        return y
    return node("Where", node("Greater", scaled, number(threshold, x.dtype, "threshold")), x, y)


def _floor_divide(layer: Layer) -> Node:
    x, y = layer.args
    if x.is_float:
        return node("Floor", node("Div", x, y))
    return node("Div", node("Sub", x, node("Mod", x, y)), y)


def _floor_mod(layer: Layer) -> Node:
    x, y = layer.args
    if not x.is_float:
        return node("Mod", x, y)
    return node("Sub", x, node("Mul", node("Floor", node("Div", x, y)), y))


def _prelu(layer: Layer) -> Node:
    x, slope = layer.args
    behind = len(x.shape) - int(layer.attrs.axis) % len(x.shape) - 1
    return node("PRelu", x, reshaped(slope, (-1, *(1,) * behind)))


def _matmul(layer: Layer) -> Node:
    """MatMul; Gemm with the weight as torch keeps it, (outputs, inputs), where a bias is added behind it."""
    x, weight, *bias = layer.args
    if layer.dtype != x.dtype:
        raise NotImplementedError(f"{layer.dtype} from {x.dtype}")
    if bias:
        return node("Gemm", x, Weight(weight.array.T, weight.source.role), *bias, transB=1)
    return node("MatMul", x, weight)


def _axes(layer: Layer, rank: int) -> tuple[int, ...]:
    """The axes that a reduction takes together."""
    axis = layer.attrs.axis
    return tuple(range(rank)) if axis is None else tuple(a % rank for a in ints(axis))


def _reduction(operator: str) -> Operator:
    def entry(layer: Layer) -> Node:
        (x,) = layer.args
        return node(operator, x, axes=_axes(layer, len(x.shape)), keepdims=int(bool(layer.attrs.keepdims)))

    return entry


def _sum(layer: Layer) -> Node:
    (x,) = layer.args
    axes = integers(_axes(layer, len(x.shape)), "axes")
    return node("ReduceSum", x, axes, keepdims=int(bool(layer.attrs.keepdims)))


def _mean(layer: Layer) -> Node:
    (x,) = layer.args
    rank = len(x.shape)
    is_global = rank > 2 and bool(layer.attrs.keepdims) and set(_axes(layer, rank)) == {*range(2, rank)}
    return node("GlobalAveragePool", x) if is_global else _reduction("ReduceMean")(layer)


def _variance(layer: Layer) -> Node:
    (x,) = layer.args
    axes = _axes(layer, len(x.shape))
    centred = node("Sub", x, node("ReduceMean", x, axes=axes, keepdims=1))
    square = node("Mul", centred, centred)
    return node("ReduceMean", square, axes=axes, keepdims=int(bool(layer.attrs.keepdims)))


def _place_of(operator: str) -> Operator:
    """The place of an extreme value, along an axis or in the flattened tensor."""

    def entry(layer: Layer) -> Value:
        (x,) = layer.args
        if layer.attrs.axis is not None:
            found = node(operator, x, axis=int(layer.attrs.axis), keepdims=int(bool(layer.attrs.keepdims)))
        else:
            found = reshaped(node(operator, reshaped(x, (-1,)), axis=0, keepdims=0), layer.shape)
        return found if layer.dtype == "int64" else _cast(found, layer.dtype)

    return entry


def _cast(x: Value, dtype: str) -> Node:
    return node("Cast", x, to=element_type(dtype))


def _astype(layer: Layer) -> Value:
    (x,) = layer.args
    return x if x.dtype == layer.dtype else _cast(x, layer.dtype)


def _concat(layer: Layer) -> Value:
    (parts,) = layer.args
    return node("Concat", *parts, axis=0 if layer.attrs.axis is None else int(layer.attrs.axis))


def _stack(layer: Layer) -> Node:
    (parts,) = layer.args
    axis = int(layer.attrs.axis or 0) % len(layer.shape)
    axes = integers((axis,), "axes")
    return node("Concat", *(node("Unsqueeze", part, axes) for part in parts), axis=axis)


def _split(layer: Layer) -> tuple[Value, ...]:
    (x,) = layer.args
    axis = int(layer.attrs.axis) % len(x.shape)
    sizes = [shape[axis] for shape, _ in layer.results]
    whole = node("Split", x, integers(sizes, "split"), axis=axis, outputs=len(sizes))
    return tuple(Output(whole, index) for index in range(len(sizes)))


def _reshape(layer: Layer) -> Value:
    x = layer.args[0]
    if layer.shape == x.shape:
        return x
    is_flatten = len(layer.shape) == 2 and len(x.shape) > 1 and layer.shape[0] == x.shape[0]
    return node("Flatten", x, axis=1) if is_flatten else reshaped(x, layer.shape)


def _squeeze(layer: Layer) -> Node:
    (x,) = layer.args
    rank = len(x.shape)
    if layer.attrs.axis is None:
        axes = [axis for axis, size in enumerate(x.shape) if size == 1]
    else:
        axes = [axis % rank for axis in ints(layer.attrs.axis)]
    return node("Squeeze", x, integers(axes, "axes"))


def _expand_dims(layer: Layer) -> Node:
    (x,) = layer.args
    axes = sorted(axis % len(layer.shape) for axis in ints(layer.attrs.axis))
    return node("Unsqueeze", x, integers(axes, "axes"))


def _permute(layer: Layer) -> Node:
    (x,) = layer.args
    axes = layer.attrs.axes
    rank = len(x.shape)
    return node(
        "Transpose", x, perm=[*reversed(range(rank))] if axes is None else [a % rank for a in ints(axes)]
    )


def _strided_slice(layer: Layer) -> Node:
    x, axes, begin, end, *strides = layer.args
    steps = strides[0] if strides else (1,) * len(axes)
    starts, ends = [], []
    for axis, first, last, step in zip(axes, begin, end, steps, strict=True):
        runs_to_start = step < 0 and last < 0
        places = range(x.shape[axis])[slice(first, None if runs_to_start else last, step)]
        behind = places.start + len(places) * step
        starts.append(places.start if places else 0)
        ends.append((behind if behind >= 0 else TO_THE_START) if places else 0)
    return node(
        "Slice",
        x,
        integers(starts, "starts"),
        integers(ends, "ends"),
        integers(axes, "axes"),
        integers(steps, "steps"),
    )


def _flip(layer: Layer) -> Node:
    (x,) = layer.args
    axis = int(layer.attrs.axis) % len(x.shape)
    ends = {"starts": -1, "ends": TO_THE_START, "axes": axis, "steps": -1}
    return node("Slice", x, *(integers((value,), role) for role, value in ends.items()))


def _take(layer: Layer) -> Node:
    x, indices = layer.args
    axis = 0 if layer.attrs.axis is None else int(layer.attrs.axis) % len(x.shape)
    if isinstance(indices, int):
        indices = number(indices, "int64", "index")
    elif indices.dtype not in ("int32", "int64"):
        indices = _cast(indices, "int64")
    return node("Gather", x, indices, axis=axis)


def _tile(layer: Layer) -> Node:
    (x,) = layer.args
    rank = len(layer.shape)
    repeats = ints(layer.attrs.repeats)
    repeats = (1,) * (rank - len(repeats)) + repeats
    same_rank = x if len(x.shape) == rank else reshaped(x, (1,) * (rank - len(x.shape)) + x.shape)
    return node("Tile", same_rank, integers(repeats, "repeats"))


def _repeat(layer: Layer) -> Value:
    """A new axis behind the repeated one, widened, then both as one."""
    (x,) = layer.args
    count, axis = int(layer.attrs.repeats), layer.attrs.axis
    shape = (math.prod(x.shape),) if axis is None else x.shape
    place = 0 if axis is None else int(axis) % len(shape)
    single = reshaped(x, (*shape[: place + 1], 1, *shape[place + 1 :]))
    wide = node("Expand", single, integers((*shape[: place + 1], count, *shape[place + 1 :]), "repeated"))
    return reshaped(wide, layer.shape)


def _pad(layer: Layer) -> Value:
    x = layer.args[0]
    attrs = layer.attrs
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if attrs.pad_mode not in modes:
        raise NotImplementedError(f"padding mode {attrs.pad_mode}")
    widths = ints(attrs.pad_width)
    fill = float(attrs.pad_value) if attrs.pad_mode == "constant" else 0
    return padded(x, widths[::2], widths[1::2], fill, modes[attrs.pad_mode])


def _dropout(layer: Layer) -> tuple[Value, ...]:
    (x,) = layer.args
    return x, Weight(np.ones(x.shape, x.dtype), "mask")


_UNARY = {
    "abs": "Abs",
    "ceil": "Ceil",
    "cos": "Cos",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "logical_not": "Not",
    "negative": "Neg",
    "nn.relu": "Relu",
    "nn.selu": "Selu",
    "round": "Round",
    "sigmoid": "Sigmoid",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}

_BINARY = {
    "add": "Add",
    "divide": "Div",
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "maximum": "Max",
    "minimum": "Min",
    "multiply": "Mul",
    "power": "Pow",
    "subtract": "Sub",
}

OPERATORS: dict[str, Operator] = {
    **{name: _plain(operator) for name, operator in (_UNARY | _BINARY).items()},
    "argmax": _place_of("ArgMax"),
    "argmin": _place_of("ArgMin"),
    "astype": _astype,
    "broadcast_to": lambda layer: node("Expand", layer.args[0], integers(layer.shape, "shape")),
    "clip": lambda layer: _clipped(*layer.args),
    "concat": _concat,
    "expand_dims": _expand_dims,
    "flatten": _reshape,
    "flip": _flip,
    "floor_divide": _floor_divide,
    "floor_mod": _floor_mod,
    "image.resize2d": resize,
    "matmul": _matmul,
    "max": _reduction("ReduceMax"),
    "mean": _mean,
    "min": _reduction("ReduceMin"),
    "mod": _plain("Mod", fmod=1),
    "nn.adaptive_avg_pool1d": adaptive_average_pool,
    "nn.adaptive_avg_pool2d": adaptive_average_pool,
    "nn.adaptive_avg_pool3d": adaptive_average_pool,
    "nn.avg_pool1d": average_pool,
    "nn.avg_pool2d": average_pool,
    "nn.avg_pool3d": average_pool,
    "nn.batch_norm": batch_norm,
    "nn.conv1d": convolution,
    "nn.conv2d": convolution,
    "nn.conv3d": convolution,
    "nn.conv1d_transpose": transposed_convolution,
    "nn.conv2d_transpose": transposed_convolution,
    "nn.conv3d_transpose": transposed_convolution,
    "nn.dropout": _dropout,
    "nn.gelu": _of_x(_gelu),
    "nn.gelu_tanh": _of_x(_gelu_tanh),
    "nn.group_norm": group_norm,
    "nn.instance_norm": instance_norm,
    "nn.layer_norm": layer_norm,
    "nn.leakyrelu": lambda layer: node("LeakyRelu", layer.args[0], alpha=float(layer.attrs.alpha)),
    "nn.log_softmax": lambda layer: node("LogSoftmax", layer.args[0], axis=int(layer.attrs.axis)),
    "nn.max_pool1d": max_pool,
    "nn.max_pool2d": max_pool,
    "nn.max_pool3d": max_pool,
    "nn.pad": _pad,
    "nn.prelu": _prelu,
    "nn.relu6": _of_x(lambda x: _clipped(x, 0, 6)),
    "nn.silu": _of_x(lambda x: node("Mul", x, node("Sigmoid", x))),
    "nn.softmax": lambda layer: node("Softmax", layer.args[0], axis=int(layer.attrs.axis)),
    "nn.softplus": _softplus,
    "not_equal": lambda layer: node("Not", node("Equal", *layer.args)),
    "ones_like": _of_x(lambda x: Weight(np.ones(x.shape, x.dtype), "ones")),
    "permute_dims": _permute,
    "prod": _reduction("ReduceProd"),
    "repeat": _repeat,
    "reshape": _reshape,
    "rsqrt": _of_x(lambda x: node("Reciprocal", node("Sqrt", x))),
    "split": _split,
    "square": _of_x(lambda x: node("Mul", x, x)),
    "squeeze": _squeeze,
    "stack": _stack,
    "std": lambda layer: node("Sqrt", _variance(layer)),
    "strided_slice": _strided_slice,
    "sum": _sum,
    "take": _take,
    "tile": _tile,
    "trunc": _of_x(lambda x: node("Mul", node("Sign", x), node("Floor", node("Abs", x)))),
    "variance": _variance,
    "where": _plain("Where"),
    "zeros_like": _of_x(lambda x: Weight(np.zeros(x.shape, x.dtype), "zeros")),
}

COMPOSITES: dict[str, Operator] = {"deeprebirth.lrn": local_response_norm}
