"""Into the packed layout and out of it.

A packed tensor is (batch, blocks, height, width, block): channel c lies at [n, c // block, y, x, c % block].
So the channels of a pixel that fill a vector of the processor lie together. With a block of 1 it is the usual
layout with one more axis, and so it is with a single pixel whose channels fill their blocks: no number moves.
"""

import numpy as np
import tvm
from tvm import relax, te
from tvm.ir import Expr
from tvm.tirx import if_then_else

PACK, UNPACK = "pack", "unpack"

_INJECTIVE = 2


def blocks_for(channels: int, block: int) -> int:
    """Return how many blocks hold so many channels."""
    return -(-channels // block)


def pack(builder: relax.BlockBuilder, data: Expr, block: int) -> Expr:
    """Return a tensor in the packed layout; channels that fill up the last block are zeros.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        (batch, channels, height, width)
    block : int
        Channels of a block.

    Returns
    -------
    Expr
        (batch, blocks, height, width, block)
    """
    batch, channels, height, width = map(int, data.ty.shape)
    blocks = blocks_for(channels, block)
    if _in_order(channels, height * width, block):
        return relax.op.reshape(data, (batch, blocks, height, width, block))
    return builder.call_te(
        _packed,
        data,
        block=block,
        primfunc_name_hint=PACK,
        primfunc_attrs={"op_pattern": _INJECTIVE},
    )


def unpack(builder: relax.BlockBuilder, data: Expr, channels: int) -> Expr:
    """Return a packed tensor in the usual layout.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        (batch, blocks, height, width, block)
    channels : int
        The real ones.

    Returns
    -------
    Expr
        (batch, channels, height, width)
    """
    batch, _, height, width, block = map(int, data.ty.shape)
    if _in_order(channels, height * width, block):
        return relax.op.reshape(data, (batch, channels, height, width))
    return builder.call_te(
        _unpacked,
        data,
        channels=channels,
        primfunc_name_hint=UNPACK,
        primfunc_attrs={"op_pattern": _INJECTIVE},
    )


def packed_weight(weight: np.ndarray, block: int, blocks: int = 1) -> np.ndarray:
    """Return weights (output, input, height, width) as (blocks, input, height, width, block).

    Parameters
    ----------
    weight : numpy.ndarray
    block : int
        Output channels in a block; the last one is filled with zeros.
    blocks : int
        At least so many blocks.
    """
    outputs, *others = weight.shape
    blocks = max(blocks, blocks_for(outputs, block))
    filled = np.zeros((blocks * block, *others), weight.dtype)
    filled[:outputs] = weight
    return np.ascontiguousarray(np.moveaxis(filled.reshape(blocks, block, *others), 1, -1))


def padded(data: te.Tensor, padding: tuple[int, int, int, int], name: str) -> te.Tensor:
    """Return a packed image with zeros above, left, below and right of it, as a step of this name."""
    batch, blocks, height, width, block = map(int, data.shape)
    top, left, bottom, right = padding

    def pixel(n: Expr, b: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        inside = tvm.tirx.all(y >= top, y < height + top, x >= left, x < width + left)
        return if_then_else(inside, data[n, b, y - top, x - left, lane], tvm.tirx.const(0, data.dtype))

    return te.compute((batch, blocks, height + top + bottom, width + left + right, block), pixel, name)


def _in_order(channels: int, pixels: int, block: int) -> bool:
    """Whether both layouts have the same numbers in the same order."""
    return block == 1 or (pixels == 1 and channels % block == 0)


def _packed(data: te.Tensor, block: int) -> te.Tensor:
    batch, channels, height, width = map(int, data.shape)

    def value(n: Expr, b: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        channel = b * block + lane
        if channels % block == 0:
            return data[n, channel, y, x]
        return if_then_else(channel < channels, data[n, channel, y, x], tvm.tirx.const(0, data.dtype))

    return te.compute((batch, blocks_for(channels, block), height, width, block), value, PACK)


def _unpacked(data: te.Tensor, channels: int) -> te.Tensor:
    batch, _, height, width, block = map(int, data.shape)
    return te.compute(
        (batch, channels, height, width),
        lambda n, c, y, x: data[n, c // block, y, x, c % block],
        UNPACK,
    )
