"""The direct convolution of packed tensors.

A packed tensor is (batch, blocks, height, width, block), with channel c at
``[n, c // block, y, x, c % block]``. What lies beyond the last channel may be anything, NaN too: sums run
over the real input channels only. An image in NCHW is a packed one whose blocks are single channels, so the
input's block may be another than the output's.

A convolution that looks at one pixel at a time takes the image as a single row: its pixels are cut into
blocks of sums without regard to where a row ends. Where blocks of sums that fill the registers do not divide
a row, or the channels, more sums are made than there are outputs. Those beyond the row's end look at pixels
before it, and none of them is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log2

import tvm
from tvm import relax, te
from tvm.ir import Expr, GenericConst
from tvm.tirx import IntImm, Select

from tuning.lowering.packed.layout import blocks_for, packed_weight, padded
from tuning.searching.blocking import padded_blockings, rounded_up
from tuning.searching.processor import Processor

NAME = "packed_conv2d"
"""What its functions are called, with the names of what is fused to them around it."""

PIXELS, SUMS, IMAGE = "packed_pixels", "packed_sums", "packed_image"

_REDUCED = ("channel", "row", "column")
_BLOCKS_OF_A_TILE = 64
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
        Zeros above, left, below, right. A negative one is a margin of the image that the window never sees.
    """

    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def of(cls, call: relax.Call) -> "Window":
        """Return a convolution's window."""
        attrs = call.attrs
        fields = attrs.strides, attrs.dilation, attrs.padding
        return cls(*(tuple(int(each) for each in field) for field in fields))

    def is_pointwise(self, kernel: Sequence[int]) -> bool:
        """Return whether each output is made of the one pixel at its place."""
        return [*kernel, *self.strides, *self.padding] == [1, 1, 1, 1, 0, 0, 0, 0]

    def outputs(self, image: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
        """Return the rows and columns of the result for an image's and a kernel's height and width."""
        top, left, bottom, right = self.padding
        padded = image[0] + top + bottom, image[1] + left + right
        rows, columns = (
            (size - (taps - 1) * step - 1) // stride + 1
            for size, taps, step, stride in zip(padded, kernel, self.dilation, self.strides, strict=True)
        )
        return rows, columns


def fits(call: relax.Call) -> bool:
    """Return whether a call is a convolution that can be computed on packed tensors.

    That is a dense one (a single group), see `is_known`.
    """
    return is_known(call) and int(call.attrs.groups) == 1


def is_known(call: relax.Call) -> bool:
    """Return whether a call is a convolution in float32, its sizes known, its weights constant."""
    if call.op != tvm.ir.Op.get("relax.nn.conv2d") or not isinstance(call.args[1], GenericConst):
        return False
    attrs = call.attrs
    layouts = attrs.data_layout, attrs.kernel_layout, attrs.out_layout
    if layouts != ("NCHW", "OIHW", "NCHW"):
        return False
    dtypes = {str(call.args[1].value.dtype), str(call.args[0].ty.dtype), str(call.ty.dtype)}
    sizes = [*call.args[0].ty.shape, *call.ty.shape]
    return dtypes == {_DTYPE} and all(isinstance(each, IntImm) for each in sizes)


def with_operands(call: relax.Call, data: Expr, weight: Expr, padding: Sequence[int]) -> relax.Call:
    """Return a dense convolution (a single group) like another one, of other data and weights."""
    attrs = call.attrs
    like = relax.op.nn.conv2d(
        data,
        weight,
        strides=attrs.strides,
        padding=padding,
        dilation=attrs.dilation,
        data_layout=attrs.data_layout,
        kernel_layout=attrs.kernel_layout,
        out_layout=attrs.out_layout,
        out_dtype=attrs.out_dtype,
    )
    return relax.BlockBuilder().normalize(like)


def convolved(
    builder: relax.BlockBuilder,
    data: Expr,
    call: relax.Call,
    block: int,
    processor: Processor,
    name: str = NAME,
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
    processor : Processor
        Whose registers will hold the sums.
    name : str
        Of the function.
    """
    weight = call.args[1].value.numpy()
    window = Window.of(call)
    blocks, (height, width) = blocks_for(weight.shape[0], block), map(int, list(call.ty.shape)[2:])
    columns = height * width if window.is_pointwise(weight.shape[2:]) else width
    best = padded_blockings(blocks, columns, block, processor, 1)[0]
    filled, columns = rounded_up(blocks, best.channels), _with_divisors(columns, best.columns)
    return builder.call_te(
        partial(convolution, window=window, blocks=blocks, columns=columns),
        data,
        relax.const(packed_weight(weight, block, filled)),
        primfunc_name_hint=name,
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def convolution(data: te.Tensor, weight: te.Tensor, window: Window, blocks: int, columns: int) -> te.Tensor:
    """Return the convolution of a packed image.

    Parameters
    ----------
    data : te.Tensor
        (batch, input blocks, height, width, input block)
    weight : te.Tensor
        (output blocks or more, input channels, kernel height, kernel width, output block)
    window : Window
        How it moves.
    blocks : int
        Blocks of output channels.
    columns : int
        So many sums are made for a row, at least as many as it has pixels.

    Returns
    -------
    te.Tensor
        (batch, output blocks, rows, columns, output block)
    """
    batch, _, *image, _ = (int(each) for each in data.shape)
    filled, _, *kernel, block = (int(each) for each in weight.shape)
    rows, width = window.outputs(image, kernel)
    zeros = tuple(max(0, each) for each in window.padding)
    pixels = padded(data, zeros, PIXELS) if any(zeros) else data
    above, left = (max(0, -each) for each in window.padding[:2])
    flat = window.is_pointwise(kernel)
    real = rows * width if flat else width
    extents = [int(each) for each in list(weight.shape)[1:4]]
    reduced = [te.reduce_axis((0, each), name) for each, name in zip(extents, _REDUCED, strict=True)]

    def product(n: Expr, k: Expr, y: Expr, x: Expr, b: Expr) -> Expr:
        channel, row, column = reduced
        x = x if columns == real else Select(x < real, x, x - (columns - real))
        y, x = (x // width, x % width) if flat else (y, x)
        (down, right), (row_step, column_step) = window.strides, window.dilation
        at = above + y * down + row * row_step, left + x * right + column * column_step
        lanes = int(data.shape[4])
        value = pixels[n, channel // lanes, *at, channel % lanes]
        return te.sum(value * weight[k, channel, row, column, b], axis=reduced)

    sums = te.compute((batch, filled, 1 if flat else rows, columns, block), product, SUMS)
    return te.compute(
        (batch, blocks, rows, width, block),
        lambda n, k, y, x, b: sums[n, k, 0, y * width + x, b] if flat else sums[n, k, y, x, b],
        IMAGE,
    )


def _with_divisors(columns: int, block: int) -> int:
    """Return a multiple of a block not below the columns; of many blocks, one that many numbers divide."""
    few = 2 ** max(0, int(log2(columns / block / _BLOCKS_OF_A_TILE)))
    return rounded_up(columns, block * few)
