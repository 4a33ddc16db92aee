"""The direct convolution of packed tensors.

A packed tensor is (batch, blocks, height, width, block), with channel c at
``[n, c // block, y, x, c % block]``. What lies beyond the last channel may be anything, NaN too: sums run
over the real input channels only. An image in NCHW is a packed one whose blocks are single channels, so the
input's block may be another than the output's.

A convolution that looks at one pixel at a time takes the image as a single row: its pixels are cut into
blocks of sums without regard to where a row ends.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import relax, te
from tvm.ir import Expr, GenericConst
from tvm.tirx import IntImm, if_then_else

NAME = "packed_conv2d"
"""What its functions are called, with the names of what is fused to them around it."""

PIXELS, SUMS, IMAGE = "packed_pixels", "packed_sums", "packed_image"

_DTYPE = "float32"
_SUM_AND_ELEMENTWISE = 4


@dataclass(frozen=True)
class Window:
    """How a convolution's window moves over the image.

    Attributes
    ----------
    strides, dilation : (int, int)
        Of rows and of columns.
    padding : (int, int, int, int)
        Zeros above, left, below, right.
    """

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


def fits(call: relax.Call) -> bool:
    """Return whether a call is a convolution that can be computed on packed tensors.

    That is a dense one (a single group) in float32, its sizes known, its weights constant.
    """
    if call.op != tvm.ir.Op.get("relax.nn.conv2d") or not isinstance(call.args[1], GenericConst):
        return False
    attrs = call.attrs
    layouts = attrs.data_layout, attrs.kernel_layout, attrs.out_layout
    if int(attrs.groups) != 1 or layouts != ("NCHW", "OIHW", "NCHW"):
        return False
    dtypes = {str(call.args[1].value.dtype), str(call.args[0].ty.dtype), str(call.ty.dtype)}
    sizes = [*call.args[0].ty.shape, *call.ty.shape]
    return dtypes == {_DTYPE} and all(isinstance(each, IntImm) for each in sizes)


def convolved(
    builder: relax.BlockBuilder, data: Expr, call: relax.Call, block: int, name: str = NAME
) -> Expr:
    """Return the call of a TIR function that computes a convolution on packed tensors.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        The convolution's input, packed, with a block of any size.
    call : relax.Call
        A convolution that fits.
    block : int
        Channels in a block of the result.
    name : str
        Of the function.
    """
    attrs = call.attrs
    window = Window(
        *(tuple(int(each) for each in field) for field in (attrs.strides, attrs.dilation, attrs.padding))
    )
    return builder.call_te(
        partial(convolution, window=window),
        data,
        relax.const(packed_weight(call.args[1].value.numpy(), block)),
        primfunc_name_hint=name,
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def packed_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """Return weights (output, input, height, width) as (blocks, input, height, width, block)."""
    outputs, *others = weight.shape
    blocks = -(-outputs // block)
    filled = np.zeros((blocks * block, *others), weight.dtype)
    filled[:outputs] = weight
    return np.ascontiguousarray(np.moveaxis(filled.reshape(blocks, block, *others), 1, -1))


def convolution(data: te.Tensor, weight: te.Tensor, window: Window) -> te.Tensor:
    """Return the convolution of a packed image.

    Parameters
    ----------
    data : te.Tensor
        (batch, blocks, height, width, block)
    weight : te.Tensor
        (output blocks, input channels, kernel height, kernel width, output block), see `packed_weight`.
    window : Window
        How it moves.

    Returns
    -------
    te.Tensor
        (batch, output blocks, rows, columns, output block)
    """
    batch, _, height, width, _ = (int(each) for each in data.shape)
    blocks, _, *kernel, block = (int(each) for each in weight.shape)
    if kernel == [1, 1] and window == Window(dilation=window.dilation):
        sums = _pointwise(data, weight)
        return te.compute(
            (batch, blocks, height, width, block), lambda n, k, y, x, b: sums[n, k, y * width + x, b], IMAGE
        )
    top, left, bottom, right = window.padding
    sizes = height + top + bottom, width + left + right
    rows, columns = (
        (size - (taps - 1) * dilation - 1) // stride + 1
        for size, taps, dilation, stride in zip(sizes, kernel, window.dilation, window.strides, strict=True)
    )
    pixels = _padded(data, window.padding) if any(window.padding) else data
    channel, *taps = _reduced(weight)
    return te.compute(
        (batch, blocks, rows, columns, block),
        lambda n, k, y, x, b: te.sum(
            _pixel(
                pixels,
                n,
                channel,
                *(
                    at * stride + tap * dilation
                    for at, tap, stride, dilation in zip(
                        (y, x), taps, window.strides, window.dilation, strict=True
                    )
                ),
            )
            * weight[k, channel, *taps, b],
            axis=[channel, *taps],
        ),
        SUMS,
    )


def _pointwise(data: te.Tensor, weight: te.Tensor) -> te.Tensor:
    """Return the sums of a convolution with a kernel of one pixel: (batch, blocks, pixels, block)."""
    batch, _, height, width, _ = (int(each) for each in data.shape)
    blocks, *_, block = (int(each) for each in weight.shape)
    channel, *_ = _reduced(weight)
    return te.compute(
        (batch, blocks, height * width, block),
        lambda n, k, p, b: te.sum(
            _pixel(data, n, channel, p // width, p % width) * weight[k, channel, 0, 0, b], axis=channel
        ),
        SUMS,
    )


def _reduced(weight: te.Tensor) -> list:
    names = ("channel", "row", "column")
    return [
        te.reduce_axis((0, int(extent)), name)
        for name, extent in zip(names, list(weight.shape)[1:4], strict=True)
    ]


def _pixel(data: te.Tensor, n: Expr, channel: Expr, y: Expr, x: Expr) -> Expr:
    block = int(data.shape[4])
    return data[n, channel // block, y, x, channel % block]


def _padded(data: te.Tensor, padding: tuple[int, int, int, int]) -> te.Tensor:
    batch, blocks, height, width, block = (int(each) for each in data.shape)
    top, left, bottom, right = padding

    def pixel(n: Expr, k: Expr, y: Expr, x: Expr, b: Expr) -> Expr:
        inside = tvm.tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return if_then_else(inside, data[n, k, y - top, x - left, b], tvm.tirx.const(0, _DTYPE))

    return te.compute((batch, blocks, height + top + bottom, width + left + right, block), pixel, PIXELS)
