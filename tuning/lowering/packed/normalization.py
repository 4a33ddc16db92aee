"""Local response normalisation of packed tensors, found in a network and computed as one function.

    y = x / (bias + alpha / size * sum over `size` neighbouring channels of x^2) ^ beta

A network that is tuned has it as a run of operators, the last of which is the division. The squares of a
pixel are in blocks, one after the other, with zeros before and after. A schedule makes one row of them: then
sums over neighbours are sums of vectors, though the neighbours of a block's channels are in other blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import tvm
from tvm import relax, te
from tvm.ir import Expr
from tvm.relax.dpl import DFPattern, is_const, is_op, wildcard
from tvm.tirx import IntImm, if_then_else

from tuning.lowering.packed.layout import blocks_for

NAME = "packed_lrn"
SQUARES, SUMS, NORMALIZED = "lrn_squares", "lrn_sums", "lrn_normalized"

_SUM_AND_ELEMENTWISE = 4
_ROOTS = 0.75


@dataclass(frozen=True)
class Normalization:
    """A normalisation in a network.

    Attributes
    ----------
    data : Expr
        What is normalised: (batch, channels, height, width)
    size : int
        Over so many channels.
    alpha, beta, bias : float
        See above.
    """

    data: Expr
    size: int
    alpha: float
    beta: float
    bias: float


def find(call: relax.Call, values: Mapping[relax.Var, Expr]) -> Normalization | None:
    """Return the normalisation that a call is the last operator of; None if it is of none.

    Parameters
    ----------
    call : relax.Call
        Any, of a network.
    values : mapping of relax.Var to Expr
        What its variables are bound to, as ``relax.analysis.get_var2val`` tells.
    """
    for run in (_run(of_roots=True), _run(of_roots=False)):
        matched = run["root"].extract_matched_expr(call, values)
        if matched is not None:
            found = {name: matched.get(pattern) for name, pattern in run.items()}
            return _normalization({**found, "data": call.args[0]})
    return None


def normalized(builder: relax.BlockBuilder, data: Expr, found: Normalization) -> Expr:
    """Return the packed result of a normalisation.

    Parameters
    ----------
    builder : relax.BlockBuilder
        Gets the function.
    data : Expr
        ``found.data``, packed: (batch, blocks, height, width, block)
    found : Normalization
        What is computed.

    Returns
    -------
    Expr
        As ``data``.
    """
    channels = int(found.data.ty.shape[1])
    return builder.call_te(
        lambda image: normalization(image, channels, found),
        data,
        primfunc_name_hint=NAME,
        primfunc_attrs={"op_pattern": _SUM_AND_ELEMENTWISE},
    )


def normalization(data: te.Tensor, channels: int, found: Normalization) -> te.Tensor:
    """Return a packed image, normalised over its real channels."""
    batch, blocks, height, width, block = map(int, data.shape)
    half = found.size // 2
    margin = blocks_for(half, block)

    def square(n: Expr, y: Expr, x: Expr, b: Expr, lane: Expr) -> Expr:
        channel = (b - margin) * block + lane
        value = data[n, b - margin, y, x, lane]
        inside = tvm.tirx.all(channel >= 0, channel < channels)
        return if_then_else(inside, value * value, tvm.tirx.const(0, data.dtype))

    squares = te.compute((batch, height, width, blocks + 2 * margin, block), square, SQUARES)
    near = te.reduce_axis((0, found.size), "near")

    def neighbour(n: Expr, b: Expr, y: Expr, x: Expr, lane: Expr) -> Expr:
        at = (b + margin) * block + lane + near - half
        return squares[n, y, x, at // block, at % block]

    sums = te.compute(data.shape, lambda *at: te.sum(neighbour(*at), axis=near), SUMS)

    def value(*at: Expr) -> Expr:
        base = found.bias + sums[at] * tvm.tirx.const(found.alpha / found.size, data.dtype)
        return data[at] / _power(base, found.beta)

    return te.compute(data.shape, value, NORMALIZED)


def _power(base: Expr, exponent: float) -> Expr:
    """Return a power; 3/4, that of nearly every network, as two square roots: for them there are vectors."""
    if exponent == _ROOTS:
        root = tvm.tirx.sqrt(base)
        return root * tvm.tirx.sqrt(root)
    return tvm.tirx.power(base, tvm.tirx.const(exponent, base.ty.dtype))


def _run(of_roots: bool) -> dict[str, DFPattern]:
    """Return the run of operators by name; its power is one of them, or two square roots."""
    data, alpha, bias, beta = wildcard(), is_const(), is_const(), is_const()
    expanded = is_op("relax.expand_dims")(is_op("relax.multiply")(data, data))
    pool = is_op("relax.nn.avg_pool3d")(expanded)
    squeezed = is_op("relax.squeeze")(pool)
    base = is_op("relax.add")(is_op("relax.multiply")(squeezed, alpha), bias)
    root = is_op("relax.sqrt")(base)
    power = (
        is_op("relax.multiply")(root, is_op("relax.sqrt")(root))
        if of_roots
        else is_op("relax.power")(base, beta)
    )
    named = {
        "root": is_op("relax.divide")(data, power),
        "data": data,
        "alpha": alpha,
        "bias": bias,
        "beta": beta,
    }
    return {**named, "expanded": expanded, "pool": pool, "squeezed": squeezed}


def _normalization(found: dict[str, Expr | None]) -> Normalization | None:
    """Return what a run computes, if it is over neighbouring channels with zeros beyond the edge."""
    numbers = [found[each].value.numpy() for each in ("alpha", "bias", "beta") if found[each] is not None]
    sizes = getattr(found["data"].ty, "shape", None)
    size = _neighbours(found["pool"].attrs)
    usual = (
        size is not None
        and all(number.size == 1 for number in numbers)
        and sizes is not None
        and len(sizes) == 4
        and all(isinstance(each, IntImm) for each in sizes)
        and [[int(axis) for axis in found[each].attrs.axis or ()] for each in ("expanded", "squeezed")]
        == [[1], [1]]
    )
    if not usual:
        return None
    alpha, bias, beta = [*(number.item() for number in numbers), _ROOTS][:3]
    return Normalization(found["data"], size, alpha, beta, bias)


def _neighbours(pool: tvm.ir.Attrs) -> int | None:
    """Return over how many channels a pool takes the mean; None if it is of other axes or another edge."""
    size = int(pool.pool_size[0])
    half = size // 2
    usual = (
        size % 2 == 1
        and [int(each) for each in pool.pool_size] == [size, 1, 1]
        and [int(each) for each in pool.padding] == [half, 0, 0, half, 0, 0]
        and {int(each) for each in (*pool.strides, *pool.dilation)} == {1}
        and (pool.count_include_pad or size == 1)
        and pool.layout == pool.out_layout == "NCDHW"
    )
    return size if usual else None
