"""Depthwise convolution of packed tensors: each channel has a filter of its own."""

from functools import partial

import tvm
from tvm import relax, te
from tvm.ir import Expr, GenericConst
from tvm.tirx import IntImm

from tuning.lowering.packed.convolution import Window
from tuning.lowering.packed.layout import packed_weight, padded

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
    return builder.call_te(
        partial(convolution, window=Window.of(call)),
        data,
        relax.const(packed_weight(call.args[1].value.numpy(), block)),
        primfunc_name_hint=NAME,
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def convolution(data: te.Tensor, weight: te.Tensor, window: Window) -> te.Tensor:
    """Return the depthwise convolution of a packed image.

    Parameters
    ----------
    data : te.Tensor
        (batch, blocks, height, width, block)
    weight : te.Tensor
        (blocks, 1, kernel height, kernel width, block)
    window : Window
        How it moves.

    Returns
    -------
    te.Tensor
        (batch, blocks, rows, columns, block)
    """
    batch, blocks, height, width, block = map(int, data.shape)
    kernel = tuple(map(int, weight.shape[2:4]))
    strides, dilation = window.strides, window.dilation
    pixels = padded(data, window.padding, PADDED) if any(window.padding) else data
    rows, columns = window.outputs((height, width), kernel)
    i, j = (te.reduce_axis((0, taps), name) for taps, name in zip(kernel, ("i", "j"), strict=True))
    return te.compute(
        (batch, blocks, rows, columns, block),
        lambda n, b, y, x, lane: te.sum(
            pixels[n, b, y * strides[0] + i * dilation[0], x * strides[1] + j * dilation[1], lane]
            * weight[b, 0, i, j, lane],
            axis=(i, j),
        ),
        SUMS,
    )
