"""Parts of packed tensors that are split between blocks.

Merged branches have such: a concatenation puts others between them.
"""

import tvm
from tvm import relax
from tvm.ir import Expr

_CHANNELS = 1
_AXES = 4


def fits(call: Expr | None) -> bool:
    """Return whether a call splits a (batch, channels, height, width) tensor by its channels."""
    return (
        isinstance(call, relax.Call)
        and call.op == tvm.ir.Op.get("relax.split")
        and call.args[0].ty.ndim == _AXES
        and int(call.attrs.axis) == _CHANNELS
    )


def bounds(call: relax.Call, part: int) -> tuple[int, int]:
    """Return the first channel of a part, and the one behind its last."""
    sizes = [int(each.shape[_CHANNELS]) for each in call.ty.fields[: part + 1]]
    return sum(sizes[:-1]), sum(sizes)


def blocks(data: Expr, first: int, last: int) -> Expr:
    """Return blocks of a packed image, (batch, blocks, height, width, block); the last one is left out."""
    return relax.op.strided_slice(data, [_CHANNELS], [first], [last])
