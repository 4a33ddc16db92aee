"""The convolution of a cropped image as one of the whole image: what is cut off is a negative padding."""

from collections.abc import Mapping

import tvm
from tvm import relax
from tvm.ir import Expr
from tvm.tirx import IntImm

from tuning.lowering.packed import convolution

_AXES = (2, 3)


def uncropped(call: relax.Call, values: Mapping[relax.Var, Expr]) -> relax.Call:
    """Return a convolution that reads the image which its own is cut out of; the same if there is none.

    On a side where the cropped image is padded with zeros, those would have to be zeros still: such a
    convolution stays.

    Parameters
    ----------
    call : relax.Call
        A convolution that `convolution.fits`.
    values : mapping
        What variables stand for.
    """
    crop = values.get(call.args[0]) if isinstance(call.args[0], relax.Var) else None
    margins = None if crop is None else _margins(crop)
    padding = [int(each) for each in call.attrs.padding]
    if margins is None or any(pad and margin for pad, margin in zip(padding, margins, strict=True)):
        return call
    negative = [pad - margin for pad, margin in zip(padding, margins, strict=True)]
    return convolution.with_operands(call, crop.args[0], call.args[1], negative)


def _margins(crop: Expr) -> list[int] | None:
    """Return how much is cut off above, left, below, right; None if a value is no such crop of known size."""
    if not isinstance(crop, relax.Call) or crop.op != tvm.ir.Op.get("relax.strided_slice"):
        return None
    before, after = list(crop.args[0].ty.shape), list(crop.ty.shape)
    if not all(isinstance(each, IntImm) for each in [*before, *after]):
        return None
    axes, begin, _, *strides = ([int(each) for each in field] for field in crop.args[1:])
    axes = [axis % len(before) for axis in axes]
    if not set(axes) <= set(_AXES) or any(step != 1 for field in strides for step in field):
        return None
    given = dict(zip(axes, begin, strict=True))
    first = [_inside(given.get(axis, 0), int(before[axis])) for axis in _AXES]
    last = [int(before[axis]) - int(after[axis]) - at for axis, at in zip(_AXES, first, strict=True)]
    return [*first, *last]


def _inside(place: int, size: int) -> int:
    """Return a place that may be counted from the end, or lie outside, as one from 0 to the size."""
    return min(max(place + size if place < 0 else place, 0), size)
