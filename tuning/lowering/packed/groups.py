"""A convolution in groups as dense convolutions side by side, where each group fills whole blocks."""

import numpy as np
from tvm import relax
from tvm.ir import Expr

from tuning.lowering.packed import convolution, splitting

_CHANNELS = 1


def fits(call: relax.Call, block: int) -> bool:
    """Return whether a call is a convolution in groups whose inputs and outputs are whole blocks for each."""
    if not convolution.is_known(call):
        return False
    groups, (outputs, inputs, *_) = int(call.attrs.groups), map(int, call.args[1].value.shape)
    return groups > 1 and inputs % block == 0 and outputs % (groups * block) == 0


def parts(call: relax.Call) -> list[relax.Call]:
    """Return the convolution of each group, of an image that is a part of the whole.

    Parameters
    ----------
    call : relax.Call
        A convolution that fits. The image of each part is a variable of its own, which tells the shape.
    """
    groups = int(call.attrs.groups)
    return [_part(call, weight) for weight in np.split(call.args[1].value.numpy(), groups)]


def sliced(data: Expr, part: int, parts: int) -> Expr:
    """Return the blocks of a packed image, (batch, blocks, height, width, block), that a group reads."""
    count = int(data.ty.shape[_CHANNELS]) // parts
    return splitting.blocks(data, part * count, (part + 1) * count)


def _part(call: relax.Call, weight: np.ndarray) -> relax.Call:
    batch, _, *image = call.args[0].ty.shape
    shape = (batch, weight.shape[_CHANNELS], *image)
    data = relax.Var("part", relax.TensorType(shape, call.args[0].ty.dtype))
    return convolution.with_operands(call, data, relax.const(weight), call.attrs.padding)
