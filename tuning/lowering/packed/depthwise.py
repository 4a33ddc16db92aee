"""Depthwise convolution of packed tensors: each channel has a filter of its own."""

import numpy as np
import tvm
from tvm import relax, te
from tvm.ir import Expr, GenericConst
from tvm.tirx import IntImm, if_then_else

from tuning.lowering.packed.layout import blocks_for

NAME = "packed_depthwise_conv2d"
"""What its functions are called, with the names of what is fused to them around it."""

PADDED, SUMS = "depthwise_padded", "depthwise_sums"

_SUM_AND_ELEMENTWISE = 4


def fits(call: relax.Call) -> bool:
    """Return whether a call is a convolution with as many groups as channels and filters.

    Its sizes are known, its weights constant.
    """
    if call.op != tvm.ir.Op.get("relax.nn.conv2d") or not isinstance(call.args[1], GenericConst):
        return False
    attrs, shape = call.attrs, call.args[0].ty.shape
    layouts = attrs.data_layout, attrs.kernel_layout, attrs.out_layout
    if layouts != ("NCHW", "OIHW", "NCHW") or not all(isinstance(each, IntImm) for each in shape):
        return False
    types = {str(each.ty.dtype) for each in (*call.args, call)}
    outputs, groups = int(call.args[1].value.shape[0]), int(attrs.groups)
    return len(types) == 1 and groups == int(shape[1]) == outputs > 1


def convolved(builder: relax.BlockBuilder, data: Expr, call: relax.Call, block: int) -> Expr:
    """Return the call of a TIR function that computes a depthwise convolution.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        (batch, blocks, height, width, block)
    call : relax.Call
        A convolution that fits.
    block : int
        Channels of a block, that of the data too.

    Returns
    -------
    Expr
        (batch, blocks, rows, columns, block)
    """
    attrs = call.attrs
    return builder.call_te(
        convolution,
        data,
        relax.const(packed_weight(call.args[1].value.numpy(), block)),
        strides=tuple(map(int, attrs.strides)),
        padding=tuple(map(int, attrs.padding)),
        dilation=tuple(map(int, attrs.dilation)),
        primfunc_name_hint=NAME,
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def packed_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """Return weights (channels, 1, height, width) as (blocks, 1, height, width, block), filled with zeros."""
    channels, _, height, width = weight.shape
    blocks = blocks_for(channels, block)
    filled = np.zeros((blocks * block, height, width), weight.dtype)
    filled[:channels] = weight[:, 0]
    packed = filled.reshape(blocks, 1, block, height, width).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(packed)


def convolution(
    data: te.Tensor,
    weight: te.Tensor,
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> te.Tensor:
    """Return the depthwise convolution of a packed image.

    Parameters
    ----------
    data : te.Tensor
        (batch, blocks, height, width, block)
    weight : te.Tensor
        (blocks, 1, kernel height, kernel width, block)
    strides, dilation : tuple of int
        Of rows and columns.
    padding : tuple of int
        Zeros above, left, below, right.

    Returns
    -------
    te.Tensor
        (batch, blocks, rows, columns, block)
    """
    batch, blocks, height, width, block = map(int, data.shape)
    kernel = tuple(map(int, weight.shape[2:4]))
    top, left, bottom, right = padding
    padded = _padded(data, padding) if any(padding) else data
    rows, columns = (
        (size - reach * (taps - 1) - 1) // stride + 1
        for size, taps, stride, reach in zip(
            (height + top + bottom, width + left + right), kernel, strides, dilation, strict=True
        )
    )
    i, j = (te.reduce_axis((0, taps), name) for taps, name in zip(kernel, ("i", "j"), strict=True))
    return te.compute(
        (batch, blocks, rows, columns, block),
        lambda n, b, y, x, lane: te.sum(
            padded[n, b, y * strides[0] + i * dilation[0], x * strides[1] + j * dilation[1], lane]
            * weight[b, 0, i, j, lane],
            axis=(i, j),
        ),
        SUMS,
    )


def _padded(data: te.Tensor, padding: tuple[int, int, int, int]) -> te.Tensor:
    batch, blocks, height, width, block = map(int, data.shape)
    top, left, bottom, right = padding

    def value(n: Expr, b: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        inside = tvm.tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return if_then_else(inside, data[n, b, y - top, x - left, lane], tvm.tirx.const(0, data.dtype))

    return te.compute((batch, blocks, height + top + bottom, width + left + right, block), value, PADDED)
