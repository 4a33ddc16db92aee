"""What each Relax operator computes, in torch.

`OPERATORS` maps an operator's name (without `relax.`) to a function that reads the call's attributes once and
returns the torch function of the call's arguments. A shape argument arrives as a tuple of ints, a scalar as a
Python number, a tuple of tensors as a tuple. Every entry follows TVM's own result, also where TVM and torch
differ (asymmetric padding, windows beyond the edge, resizing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[..., Any]
Operator = Callable[[Any], Function]


def ints(values: Sequence[Any]) -> tuple[int, ...]:
    """Python ints from TVM's numbers."""
    return tuple(int(value) for value in values)


def torch_dtype(name: Any) -> torch.dtype:
    """The torch type for TVM's name of a type (`float32`)."""
    return getattr(torch, str(name))


def _plain(function: Function) -> Operator:
    return lambda attrs: function


def _pad(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the last axes of `x`."""
    if not any((*before, *after)):
        return x
    widths = [width for pair in zip(reversed(before), reversed(after), strict=True) for width in pair]
    return F.pad(x, widths, value=value)


def _require_layout(layout: str, wanted: str) -> None:
    if layout != wanted:
        raise NotImplementedError(f"layout {layout} instead of {wanted}")


_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def _summed_in_float32(operator: Operator) -> Operator:
    """An operator that sums up; of float16 it does so in float32, and rounds the result once."""

    def prepare(attrs: Any) -> Function:
        function = operator(attrs)

        def run(x: Tensor, *others: Tensor) -> Tensor:
            if x.dtype != torch.float16:
                return function(x, *others)
            return function(x.float(), *(other.float() for other in others)).half()

        return run

    return prepare


def _matmul(attrs: Any) -> Function:
    """The product in the operator's own type, if it has one."""
    if not attrs.out_dtype:
        return torch.matmul
    dtype = torch_dtype(attrs.out_dtype)
    return lambda x, y: torch.matmul(x.to(dtype), y.to(dtype))


def _convolution(rank: int) -> Operator:
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]

    def prepare(attrs: Any) -> Function:
        _require_layout(attrs.data_layout, "NC" + _SPATIAL[rank])
        _require_layout(attrs.kernel_layout, "OI" + _SPATIAL[rank])
        stride, dilation, groups = ints(attrs.strides), ints(attrs.dilation), int(attrs.groups)
        padding = ints(attrs.padding)
        before, after = padding[:rank], padding[rank:]
        if before == after:
            return lambda x, weight: function(x, weight, None, stride, before, dilation, groups)
        return lambda x, weight: function(_pad(x, before, after), weight, None, stride, 0, dilation, groups)

    return prepare


def _transposed_convolution(rank: int) -> Operator:
    function = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[rank]

    def prepare(attrs: Any) -> Function:
        _require_layout(attrs.data_layout, "NC" + _SPATIAL[rank])
        _require_layout(attrs.kernel_layout, "IO" + _SPATIAL[rank])
        stride, dilation, groups = ints(attrs.strides), ints(attrs.dilation), int(attrs.groups)
        extra, padding = ints(attrs.output_padding), ints(attrs.padding)

        def run(x: Tensor, weight: Tensor) -> Tensor:
            y = function(x, weight, None, stride, 0, extra, groups, dilation)
            for axis, (before, after) in enumerate(zip(padding[:rank], padding[rank:], strict=True), start=2):
                y = y.narrow(axis, before, y.shape[axis] - before - after)
            return y

        return run

    return prepare


class _Windows:
    """The geometry of a pool: its windows, and how far they reach over the declared padding."""

    def __init__(self, attrs: Any, rank: int):
        _require_layout(attrs.layout, "NC" + _SPATIAL[rank])
        padding = ints(attrs.padding)
        self.kernel, self.stride = ints(attrs.pool_size), ints(attrs.strides)
        self.dilation, self.ceil = ints(attrs.dilation), bool(attrs.ceil_mode)
        self.before, self.after = padding[:rank], padding[rank:]

    def overhang(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Elements that the last window needs beyond the padding, which happens with `ceil_mode` only."""
        return tuple(
            self._overhang(*numbers)
            for numbers in zip(
                sizes, self.kernel, self.stride, self.dilation, self.before, self.after, strict=True
            )
        )

    def _overhang(self, size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
        if not self.ceil:
            return 0
        padded, reach = size + before + after, dilation * (kernel - 1) + 1
        last = math.ceil((padded - reach) / stride)
        if last * stride >= size + before:
            last -= 1
        return max(0, last * stride + reach - padded)


def _max_pool(rank: int) -> Operator:
    function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[rank]

    def prepare(attrs: Any) -> Function:
        windows = _Windows(attrs, rank)

        def run(x: Tensor) -> Tensor:
            over = windows.overhang(x.shape[2:])
            after = tuple(a + o for a, o in zip(windows.after, over, strict=True))
            if after == windows.before and all(
                2 * a <= k for a, k in zip(after, windows.kernel, strict=True)
            ):
                return function(x, windows.kernel, windows.stride, after, windows.dilation)
            padded = _pad(x, windows.before, after, -math.inf)
            return function(padded, windows.kernel, windows.stride, 0, windows.dilation)

        return run

    return prepare


def _average_pool(rank: int) -> Operator:
    average = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[rank]
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]

    def prepare(attrs: Any) -> Function:
        windows = _Windows(attrs, rank)
        counts_padding = bool(attrs.count_include_pad)

        def mean(x: Tensor) -> Tensor:
            if set(windows.dilation) == {1}:
                return average(x, windows.kernel, windows.stride)
            share = x.new_full((x.shape[1], 1, *windows.kernel), 1 / math.prod(windows.kernel))
            return convolve(x, share, None, windows.stride, 0, windows.dilation, x.shape[1])

        def run(x: Tensor) -> Tensor:
            over = windows.overhang(x.shape[2:])
            after = [a + o for a, o in zip(windows.after, over, strict=True)]
            y = mean(_pad(x, windows.before, after))
            if not any(over) and (counts_padding or not any((*windows.before, *windows.after))):
                return y
            counted = x.new_ones((1, 1, *x.shape[2:]))
            counted = _pad(counted, windows.before, windows.after, float(counts_padding))
            return y / mean(_pad(counted, (0,) * rank, over))

        return run

    return prepare


def _adaptive_average_pool(rank: int) -> Operator:
    function = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}[rank]

    def prepare(attrs: Any) -> Function:
        _require_layout(attrs.layout, "NC" + _SPATIAL[rank])
        size = attrs.output_size
        return lambda x: function(x, x.shape[2:] if size is None else ints(size))

    return prepare


def _pad_operator(attrs: Any) -> Function:
    widths = ints(attrs.pad_width)
    before, after = widths[::2], widths[1::2]
    if attrs.pad_mode == "constant":
        return lambda x: _pad(x, before, after, float(attrs.pad_value))
    modes = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}
    if attrs.pad_mode not in modes or any((*before[:2], *after[:2])):
        raise NotImplementedError(f"padding mode {attrs.pad_mode}")
    pairs = [width for pair in zip(reversed(before[2:]), reversed(after[2:]), strict=True) for width in pair]
    return lambda x: F.pad(x, pairs, mode=modes[attrs.pad_mode])


def _batch_norm(attrs: Any) -> Function:
    if attrs.training:
        raise NotImplementedError("batch norm in training mode")
    axis, epsilon = int(attrs.axis), float(attrs.epsilon)

    def run(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
        shape = [-1 if i == axis else 1 for i in range(x.dim())]
        y = (x - mean.reshape(shape)) / torch.sqrt(variance + epsilon).reshape(shape)
        if attrs.scale:
            y = y * gamma.reshape(shape)
        if attrs.center:
            y = y + beta.reshape(shape)
        return y, mean, variance

    return run


def _layer_norm(attrs: Any) -> Function:
    axes, epsilon = ints(attrs.axes), float(attrs.epsilon)

    def run(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        y = (x - mean) / torch.sqrt(variance + epsilon)
        return (y * gamma if attrs.scale else y) + (beta if attrs.center else 0)

    return run


def _instance_norm(attrs: Any) -> Function:
    axes, channel, epsilon = ints(attrs.axes), int(attrs.channel_axis), float(attrs.epsilon)

    def run(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        shape = [-1 if i == channel else 1 for i in range(x.dim())]
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        y = (x - mean) / torch.sqrt(variance + epsilon)
        y = y * gamma.reshape(shape) if attrs.scale else y
        return y + beta.reshape(shape) if attrs.center else y

    return run


def _group_norm(attrs: Any) -> Function:
    groups, epsilon = int(attrs.num_groups), float(attrs.epsilon)
    return lambda x, gamma, beta: F.group_norm(x, groups, gamma, beta, epsilon)


def _prelu(attrs: Any) -> Function:
    axis = int(attrs.axis)

    def run(x: Tensor, slope: Tensor) -> Tensor:
        shape = [-1 if i == axis % x.dim() else 1 for i in range(x.dim())]
        return torch.where(x < 0, x * slope.reshape(shape), x)

    return run


def _reduction(function: Function) -> Operator:
    def prepare(attrs: Any) -> Function:
        axes = None if attrs.axis is None else ints(attrs.axis)
        return lambda x: function(x, tuple(range(x.dim())) if axes is None else axes, bool(attrs.keepdims))

    return prepare


def _product(x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdims)
    return x


def _arg_reduction(function: Function) -> Operator:
    return lambda attrs: (
        lambda x: function(x, None if attrs.axis is None else int(attrs.axis), keepdim=bool(attrs.keepdims))
    )


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _squeeze(attrs: Any) -> Function:
    return lambda x: x.squeeze() if attrs.axis is None else x.squeeze(ints(attrs.axis))


def _expand_dims(attrs: Any) -> Function:
    axes = ints(attrs.axis)

    def run(x: Tensor) -> Tensor:
        rank = x.dim() + len(axes)
        for axis in sorted(axis % rank for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def _permute(attrs: Any) -> Function:
    return lambda x: x.permute(tuple(reversed(range(x.dim()))) if attrs.axes is None else ints(attrs.axes))


def _split(attrs: Any) -> Function:
    axis, sections = int(attrs.axis), attrs.indices_or_sections
    if isinstance(sections, int) or hasattr(sections, "value"):
        return lambda x: tuple(x.split(math.ceil(x.shape[axis] / int(sections)), axis))
    return lambda x: tuple(torch.tensor_split(x, ints(sections), axis))


def _strided_slice(attrs: Any) -> Function:
    def run(
        x: Tensor,
        axes: tuple[int, ...],
        begin: tuple[int, ...],
        end: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
    ) -> Tensor:
        for axis, first, last, step in zip(axes, begin, end, strides or (1,) * len(axes), strict=True):
            positions = range(x.shape[axis])[slice(first, last if step > 0 or last >= 0 else None, step)]
            x = x.index_select(axis, torch.tensor(list(positions), dtype=torch.int64, device=x.device))
        return x

    return run


def _take(attrs: Any) -> Function:
    def run(x: Tensor, indices: Tensor | int) -> Tensor:
        axis = 0 if attrs.axis is None else int(attrs.axis) % x.dim()
        if isinstance(indices, int):
            return x.select(axis, indices)
        picked = x.index_select(axis, indices.reshape(-1).long() % x.shape[axis])
        return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    return run


_COORDINATES: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "half_pixel": lambda x, source, target: (x + 0.5) * (source / target) - 0.5,
    "align_corners": lambda x, source, target: x * ((source - 1) / max(target - 1, 1)),
    "asymmetric": lambda x, source, target: x * (source / target),
    "pytorch_half_pixel": lambda x, source, target: (
        (x + 0.5) * (source / target) - 0.5 if target > 1 else x * 0
    ),
    "tf_half_pixel_for_nn": lambda x, source, target: (x + 0.5) * (source / target),
}

_ROUNDING: dict[str, Callable[[Tensor], Tensor]] = {
    "round": torch.round,
    "round_prefer_floor": lambda x: torch.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: torch.floor(x + 0.5),
    "floor": lambda x: torch.floor(x + 1e-5),
    "ceil": lambda x: torch.ceil(x - 1e-5),
}


def _resize(attrs: Any) -> Function:
    _require_layout(attrs.layout, "NCHW")
    mode, method = attrs.coordinate_transformation_mode, attrs.method
    if mode not in _COORDINATES or method not in ("nearest_neighbor", "linear"):
        raise NotImplementedError(f"resize method {method} with {mode}")
    rounding = attrs.rounding_method or ("round" if mode == "align_corners" else "floor")
    if method == "nearest_neighbor" and rounding not in _ROUNDING:
        raise NotImplementedError(f"resize rounding {rounding}")

    def along(x: Tensor, axis: int, target: int) -> Tensor:
        source = x.shape[axis]
        steps = torch.arange(target, dtype=torch.float32, device=x.device)
        places = _COORDINATES[mode](steps, source, target)
        if method == "nearest_neighbor":
            return x.index_select(axis, _ROUNDING[rounding](places).long().clamp(0, source - 1))
        low = torch.floor(places)
        share = (places - low).reshape([-1 if i == axis else 1 for i in range(x.dim())])
        first, second = ((low.long() + step).clamp(0, source - 1) for step in (0, 1))
        return x.index_select(axis, first) * (1 - share) + x.index_select(axis, second) * share

    return lambda x, size: along(along(x, 2, size[0]), 3, size[1])


_UNARY: dict[str, Function] = {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "erf": torch.erf,
    "exp": torch.exp,
    "floor": torch.floor,
    "log": torch.log,
    "logical_not": torch.logical_not,
    "negative": torch.neg,
    "nn.gelu": F.gelu,
    "nn.gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "nn.relu": F.relu,
    "nn.relu6": F.relu6,
    "nn.selu": F.selu,
    "nn.silu": F.silu,
    "round": torch.round,
    "rsqrt": torch.rsqrt,
    "sigmoid": torch.sigmoid,
    "sign": torch.sign,
    "sin": torch.sin,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
    "trunc": torch.trunc,
}

_BINARY: dict[str, Function] = {
    "add": torch.add,
    "divide": _divide,
    "equal": torch.eq,
    "floor_divide": torch.floor_divide,
    "floor_mod": torch.remainder,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mod": torch.fmod,
    "multiply": torch.mul,
    "not_equal": torch.ne,
    "power": torch.pow,
    "subtract": torch.sub,
}

OPERATORS: dict[str, Operator] = {
    **{name: _plain(function) for name, function in (_UNARY | _BINARY).items()},
    "argmax": _arg_reduction(torch.argmax),
    "argmin": _arg_reduction(torch.argmin),
    "astype": lambda attrs: lambda x: x.to(torch_dtype(attrs.dtype)),
    "broadcast_to": _plain(lambda x, shape: x.expand(shape)),
    "clip": _plain(lambda x, low, high: x.clamp(low, high)),
    "concat": lambda attrs: lambda parts: torch.cat(parts, 0 if attrs.axis is None else int(attrs.axis)),
    "expand_dims": _expand_dims,
    "flatten": _plain(torch.flatten),
    "flip": lambda attrs: lambda x: x.flip(int(attrs.axis)),
    "image.resize2d": _resize,
    "matmul": _matmul,
    "max": _reduction(torch.amax),
    "mean": _reduction(torch.mean),
    "min": _reduction(torch.amin),
    "nn.adaptive_avg_pool1d": _adaptive_average_pool(1),
    "nn.adaptive_avg_pool2d": _adaptive_average_pool(2),
    "nn.adaptive_avg_pool3d": _adaptive_average_pool(3),
    "nn.avg_pool1d": _summed_in_float32(_average_pool(1)),
    "nn.avg_pool2d": _summed_in_float32(_average_pool(2)),
    "nn.avg_pool3d": _summed_in_float32(_average_pool(3)),
    "nn.batch_norm": _batch_norm,
    "nn.conv1d": _summed_in_float32(_convolution(1)),
    "nn.conv2d": _summed_in_float32(_convolution(2)),
    "nn.conv3d": _summed_in_float32(_convolution(3)),
    "nn.conv1d_transpose": _summed_in_float32(_transposed_convolution(1)),
    "nn.conv2d_transpose": _summed_in_float32(_transposed_convolution(2)),
    "nn.conv3d_transpose": _summed_in_float32(_transposed_convolution(3)),
    "nn.dropout": _plain(lambda x: (x, torch.ones_like(x))),
    "nn.group_norm": _group_norm,
    "nn.instance_norm": _instance_norm,
    "nn.layer_norm": _layer_norm,
    "nn.leakyrelu": lambda attrs: lambda x: F.leaky_relu(x, float(attrs.alpha)),
    "nn.log_softmax": lambda attrs: lambda x: F.log_softmax(x, int(attrs.axis)),
    "nn.max_pool1d": _max_pool(1),
    "nn.max_pool2d": _max_pool(2),
    "nn.max_pool3d": _max_pool(3),
    "nn.pad": _pad_operator,
    "nn.prelu": _prelu,
    "nn.softmax": lambda attrs: lambda x: F.softmax(x, int(attrs.axis)),
    "nn.softplus": lambda attrs: lambda x: F.softplus(x, float(attrs.beta), float(attrs.threshold)),
    "ones_like": _plain(torch.ones_like),
    "permute_dims": _permute,
    "prod": _reduction(_product),
    "repeat": lambda attrs: (
        lambda x: x.repeat_interleave(int(attrs.repeats), None if attrs.axis is None else int(attrs.axis))
    ),
    "reshape": _plain(torch.reshape),
    "split": _split,
    "squeeze": _squeeze,
    "stack": lambda attrs: lambda parts: torch.stack(parts, int(attrs.axis)),
    "std": _reduction(lambda x, axes, keepdims: torch.std(x, axes, correction=0, keepdim=keepdims)),
    "strided_slice": _strided_slice,
    "sum": _reduction(torch.sum),
    "take": _take,
    "tile": lambda attrs: lambda x: x.tile(ints(attrs.repeats)),
    "variance": _reduction(lambda x, axes, keepdims: torch.var(x, axes, correction=0, keepdim=keepdims)),
    "where": _plain(torch.where),
    "zeros_like": _plain(torch.zeros_like),
}


def local_response_norm(attrs: Any) -> Function:
    """The composite `deeprebirth.lrn`: x / (bias + alpha / size * sum of x² over `size` channels) ** beta.

    Parameters
    ----------
    attrs : mapping
        `size`, `alpha`, `beta` and `bias` of the function.
    """
    size, alpha, beta, bias = (
        int(attrs["size"]),
        float(attrs["alpha"]),
        float(attrs["beta"]),
        float(attrs["bias"]),
    )
    before, after = size // 2, (size - 1) // 2

    def run(x: Tensor) -> Tensor:
        squares = F.pad(x * x, (*(0, 0) * (x.dim() - 2), before, after))
        windows = (squares.narrow(1, first, x.shape[1]) for first in range(size))
        return x * (bias + alpha / size * sum(windows)).pow(-beta)

    return run


COMPOSITES: dict[str, Operator] = {"deeprebirth.lrn": local_response_norm}
