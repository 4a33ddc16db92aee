"""Elementwise layers on packed tensors: the operators are the same, their operands are packed.

Operands of one value for each channel, and of one value, are broadcast as before.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from tvm import relax
from tvm.ir import Expr, GenericConst
from tvm.tirx import IntImm

from tuning.lowering.packed.layout import blocks_for

_NAMES = {
    "relax.abs",
    "relax.add",
    "relax.ceil",
    "relax.clip",
    "relax.cos",
    "relax.divide",
    "relax.erf",
    "relax.exp",
    "relax.floor",
    "relax.log",
    "relax.maximum",
    "relax.minimum",
    "relax.multiply",
    "relax.negative",
    "relax.nn.gelu",
    "relax.nn.gelu_tanh",
    "relax.nn.leakyrelu",
    "relax.nn.relu",
    "relax.nn.selu",
    "relax.nn.silu",
    "relax.nn.softplus",
    "relax.power",
    "relax.round",
    "relax.rsqrt",
    "relax.sigmoid",
    "relax.sign",
    "relax.sin",
    "relax.sqrt",
    "relax.square",
    "relax.subtract",
    "relax.tanh",
}
_AXES = 4


def fits(call: relax.Call) -> bool:
    """Return whether a call computes each element of a (batch, channels, height, width) tensor on its own.

    Its operands are tensors, each of which `is_channels` or `is_scalar`, or attributes.
    """
    shape = shape_of(call)
    if getattr(call.op, "name", None) not in _NAMES or shape is None:
        return False
    return all(is_scalar(each) or is_channels(each, shape[1]) for each in operands(call))


def operands(call: relax.Call) -> Iterator[Expr]:
    """Yield the tensors among a call's arguments."""
    yield from (each for each in call.args if isinstance(each.ty, relax.TensorType))


def shape_of(expression: Expr) -> tuple[int, int, int, int] | None:
    """Return the shape of a tensor with four axes, all known; None for any other."""
    ty = expression.ty
    if not isinstance(ty, relax.TensorType) or ty.shape is None or len(ty.shape) != _AXES:
        return None
    sizes = list(ty.shape)
    return tuple(int(each) for each in sizes) if all(isinstance(each, IntImm) for each in sizes) else None


def is_scalar(expression: Expr) -> bool:
    """Return whether a tensor is a constant of one value."""
    return isinstance(expression, GenericConst) and _array(expression).size == 1


def is_channels(expression: Expr, channels: int) -> bool:
    """Return whether a tensor has four axes, or is a constant with one value for each channel."""
    if isinstance(expression, GenericConst):
        shape = _array(expression).shape
        return (
            len(shape) in (_AXES - 1, _AXES) and shape[-3:] == (channels, 1, 1) and shape[:-3] in ((), (1,))
        )
    shape = shape_of(expression)
    return shape is not None and shape[1] == channels


def packed_constant(constant: GenericConst, block: int) -> Expr:
    """Return a constant as an operand of packed tensors: (1, blocks, 1, 1, block), or of one value."""
    if is_scalar(constant):
        return relax.const(_array(constant).reshape(()))
    values = _array(constant).reshape(-1)
    filled = np.zeros(blocks_for(len(values), block) * block, values.dtype)
    filled[: len(values)] = values
    return relax.const(filled.reshape(1, -1, 1, 1, block))


def computed(call: relax.Call, packed: Sequence[Expr]) -> Expr:
    """Return the call with packed tensors in place of its own."""
    tensors = iter(packed)
    arguments = [next(tensors) if isinstance(each.ty, relax.TensorType) else each for each in call.args]
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _array(constant: GenericConst) -> np.ndarray:
    return constant.value.numpy()
