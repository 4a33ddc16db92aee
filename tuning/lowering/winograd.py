"""Winograd's convolution: 3x3 or 5x5 with stride 1, with a quarter or a third of the multiplications.

A tile of 6x6 inputs is transformed (rows, then columns), multiplied by the weights, which are transformed
when the network is built, and summed over the input channels: 36 multiplications. A last transform makes the
tile's outputs of the sums: 4x4 of a 3x3 window, which would take 144 multiplications, 2x2 of a 5x5 one (100).
Tiles that stick out over the edge read zeros, and what they compute there is not written. Beyond the last
tile there are spare ones, like the first, up to a number that has many divisors, so that a schedule may take
as many at a time as it likes.

Errors grow with the entries of the matrices. The points 0, +-5/8, +-3/2 and infinity keep them small, and
those of the matrices that are applied when the network runs are exact in float32. Seen with 8 to 256 input
channels, random and ReLU's, dense and sparse: the root mean square of the error is up to 4 times that of the
direct convolution, and the largest error below a tenth of what `tuning.measuring.compare` allows a schedule
of the direct one. With the usual points 0, +-1, +-2 it would be about five times as large.

The function is plain: which loops are unrolled, in vectors, and in which order is a schedule's matter.
"""

from collections.abc import Callable
from functools import reduce
from operator import add

import numpy as np
import tvm
from tvm import relax, te
from tvm.ir import Expr, GenericConst
from tvm.tirx import IntImm, Select, if_then_else

from tuning.lowering.toom_cook import matrices

NAME = "winograd_conv2d"
"""What its functions are called, with the names of what is fused to them around it."""

TAPS = (3, 5)
POINTS = (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
PIXELS, INPUT_ROWS, INPUT, PRODUCTS, OUTPUT_ROWS, OUTPUT, IMAGE = (
    "winograd_pixels",
    "winograd_input_rows",
    "winograd_input",
    "winograd_products",
    "winograd_output_rows",
    "winograd_output",
    "winograd_image",
)

_INPUTS = len(POINTS) + 1
_MATRICES = {taps: matrices(taps, POINTS) for taps in TAPS}
_DTYPE = "float32"
_SUM_AND_ELEMENTWISE = 4
_CUT = 60


def fits(call: relax.Call) -> bool:
    """Return whether a call is a convolution that can be computed so, with fewer multiplications.

    That is 3x3 or 5x5 with stride 1, dense, in float32, its sizes known, its weights constant.
    """
    if call.op != tvm.ir.Op.get("relax.nn.conv2d") or not isinstance(call.args[1], GenericConst):
        return False
    attrs, weight = call.attrs, call.args[1].value
    ones = [*attrs.strides, *attrs.dilation, attrs.groups]
    layouts = attrs.data_layout, attrs.kernel_layout, attrs.out_layout
    if any(int(each) != 1 for each in ones) or layouts != ("NCHW", "OIHW", "NCHW"):
        return False
    if {str(weight.dtype), str(call.args[0].ty.dtype), str(call.ty.dtype)} != {_DTYPE}:
        return False
    rows, columns = (int(each) for each in weight.shape[2:])
    return rows == columns and rows in TAPS and _saves(call, rows)


def convolved(
    builder: relax.BlockBuilder, data: Expr, call: relax.Call, block: int, name: str = NAME
) -> Expr:
    """Return the call of a TIR function that computes a convolution on packed data.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        The convolution's data, (batch, blocks, height, width, any block).
    call : relax.Call
        A convolution that fits.
    block : int
        Output channels of a block.
    name : str
        Of the function.

    Returns
    -------
    Expr
        (batch, blocks, height, width, ``block``)
    """
    top, left, bottom, right = (int(each) for each in call.attrs.padding)
    weight = call.args[1].value.numpy()
    return builder.call_te(
        convolution,
        data,
        relax.const(transformed(weight, block)),
        taps=weight.shape[-1],
        block=block,
        padding=(top, left, bottom, right),
        primfunc_name_hint=name,
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def transformed(weight: np.ndarray, block: int) -> np.ndarray:
    """Return weights as the function takes them.

    Parameters
    ----------
    weight : numpy.ndarray
        (output channels, input channels, taps, taps)
    block : int
        Output channels of a block.

    Returns
    -------
    numpy.ndarray
        (6, 6, input channels, output channels), zeros for channels that fill the last block.
    """
    one = _MATRICES[weight.shape[-1]].filter
    filled = np.pad(weight.astype("float64"), [(0, -len(weight) % block), (0, 0), (0, 0), (0, 0)])
    return np.einsum("ya,oiab,xb->yxio", one, filled, one, optimize=True).astype(_DTYPE)


def convolution(
    data: te.Tensor, weight: te.Tensor, taps: int, block: int, padding: tuple[int, int, int, int]
) -> te.Tensor:
    """Return the convolution of a packed image with transformed weights.

    Parameters
    ----------
    data : te.Tensor
        (batch, blocks, height, width, any block); channels that the weights don't have may hold anything.
    weight : te.Tensor
        (6, 6, input channels, output channels), see `transformed`.
    taps : int
        Rows and columns of the window.
    block : int
        Output channels of a block.
    padding : tuple of int
        Zeros above, left, below, right.

    Returns
    -------
    te.Tensor
        (batch, blocks, height, width, ``block``)
    """
    batch, blocks, height, width, lanes = (int(each) for each in data.shape)
    inputs, outputs = (int(each) for each in weight.shape[2:])
    top, left, bottom, right = padding
    rows, columns = height + top + bottom - taps + 1, width + left + right - taps + 1
    of, side = _MATRICES[taps], tile_of(taps)
    down, across = -(-rows // side), -(-columns // side)
    used = batch * down * across
    tiles = (used // _CUT + 2) * _CUT
    channel = te.reduce_axis((0, inputs), "channel")

    def pixel(n: Expr, c: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        inside = tvm.tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return if_then_else(inside, data[n, c, y - top, x - left, lane], tvm.tirx.const(0, _DTYPE))

    def image_of_tile(tile: Expr, y: int, x: Expr, c: Expr) -> Expr:
        tile = tile % used
        n, corner = tile // (down * across), (tile // across % down * side, tile % across * side)
        return pixels[n, c // lanes, corner[0] + y, corner[1] + x, c % lanes]

    sides = side * down + taps - 1, side * across + taps - 1
    pixels = te.compute((batch, blocks, *sides, lanes), pixel, PIXELS)
    input_rows = te.compute(
        (_INPUTS, _INPUTS, tiles, blocks * lanes),
        lambda i, j, t, c: _row(of.input, i, lambda each: image_of_tile(t, each, j, c)),
        INPUT_ROWS,
    )
    input_tiles = te.compute(
        (_INPUTS, _INPUTS, tiles, blocks * lanes),
        lambda i, j, t, c: _row(of.input, j, lambda each: input_rows[i, each, t, c]),
        INPUT,
    )
    products = te.compute(
        (tiles, _INPUTS, _INPUTS, outputs),
        lambda t, i, j, k: te.sum(input_tiles[i, j, t, channel] * weight[i, j, channel, k], axis=channel),
        PRODUCTS,
    )
    output_rows = te.compute(
        (tiles, side, _INPUTS, outputs),
        lambda t, i, j, k: _row(of.output, i, lambda each: products[t, each, j, k]),
        OUTPUT_ROWS,
    )
    output_tiles = te.compute(
        (tiles, side, side, outputs),
        lambda t, i, j, k: _row(of.output, j, lambda each: output_rows[t, i, each, k]),
        OUTPUT,
    )

    def image(n: Expr, k: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        tile = (n * down + y // side) * across + x // side
        return output_tiles[tile, y % side, x % side, k * block + lane]

    return te.compute((batch, outputs // block, rows, columns, block), image, IMAGE)


def tile_of(taps: int) -> int:
    """Return how many rows, and columns, of outputs a tile has for a window of so many."""
    return _INPUTS - taps + 1


def _saves(call: relax.Call, taps: int) -> bool:
    """Whether tiles take fewer multiplications, those over the edge included."""
    sizes = [*call.args[0].ty.shape, *call.ty.shape]
    if not all(isinstance(each, IntImm) for each in sizes):
        return False
    rows, columns = map(int, list(call.ty.shape)[2:])
    down, across = (-(-each // tile_of(taps)) for each in (rows, columns))
    return _INPUTS**2 * down * across < taps**2 * rows * columns


def _row(matrix: np.ndarray, row: Expr, value: Callable[[int], Expr]) -> Expr:
    """Return the product of a matrix's row with values; the row is a variable that a schedule unrolls."""
    result = _combined(matrix[-1], value)
    for place in reversed(range(len(matrix) - 1)):
        result = Select(row == place, _combined(matrix[place], value), result)
    return result


def _combined(coefficients: np.ndarray, value: Callable[[int], Expr]) -> Expr:
    """Return a sum of values times coefficients, with no multiplication by 0 or 1.

    Even and odd terms are summed apart, the odd ones with a positive last coefficient, so that both rows of
    a pair hold the same two sums, and the compiler makes each of them once.
    """
    places = np.flatnonzero(coefficients)
    even, odd = places[places % 2 == 0], places[places % 2 == 1]
    if not len(odd) or not len(even):
        return _sum(coefficients, places, value)
    if coefficients[odd[-1]] < 0:
        return _sum(coefficients, even, value) - _sum(-coefficients, odd, value)
    return _sum(coefficients, even, value) + _sum(coefficients, odd, value)


def _sum(coefficients: np.ndarray, places: np.ndarray, value: Callable[[int], Expr]) -> Expr:
    terms = (_times(value(int(place)), float(coefficients[place])) for place in places)
    return reduce(add, terms)


def _times(value: Expr, factor: float) -> Expr:
    return value if factor == 1 else value * tvm.tirx.const(factor, _DTYPE)
