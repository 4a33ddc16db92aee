"""A network with packed tensors between its layers.

A packed tensor has the axes (batch, blocks, height, width, block): a vector's worth of channels lies
together, so that convolutions read and write whole vectors. What lies behind the last channel in the last
block is anything. A tensor is packed where a convolution makes it, and stays so while layers allow; the
others get it in its own form, written once. What a convolution reads unpacked has blocks of one channel.

Convolutions that Winograd's algorithm can compute have a choice; the caller makes it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Expr, GenericConst, IRModule

from tuning.lowering import winograd
from tuning.lowering.packed import (
    convolution,
    cropping,
    depthwise,
    elementwise,
    groups,
    normalization,
    pooling,
    splitting,
)
from tuning.lowering.packed.layout import blocks_for, pack, unpack
from tuning.searching.processor import Processor, processor_of

_CHANNELS = 1


@dataclass(frozen=True)
class Lowered:
    """A network whose convolutions are TIR functions.

    Attributes
    ----------
    module : IRModule
    weights : tuple of GenericConst
        What the function of each layer with a choice is called with, in the order of the layers.
    """

    module: IRModule
    weights: tuple[GenericConst, ...]


@dataclass
class _Tensor:
    """A tensor of a network in the forms it has been written in: its own, and packed."""

    channels: int
    packed: Expr
    block: int
    plain: Expr | None = None


def lower(
    module: IRModule, target: tvm.target.Target, takes_winograd: Callable[[int], bool] = lambda _: False
) -> Lowered:
    """Return a network with packed tensors between its layers.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main``, not legalised, its weights as constants in place.
    target : tvm.target.Target
        A processor.
    takes_winograd : callable
        Tells of the number of a layer with a choice, in the order of the calls, whether Winograd's algorithm
        computes it.
    """
    lowering = _Lowering(module, processor_of(target), takes_winograd)
    main = module.get_global_var("main")
    lowering.builder_.update_func(main, lowering.visit_expr(module[main]))
    lowered = relax.transform.DeadCodeElimination()(lowering.builder_.get())
    return Lowered(lowered, tuple(lowering.weights))


def calls_of(module: IRModule) -> list[relax.Call]:
    """Return the calls in ``main``, in order."""
    found: list[relax.Call] = []

    def visit(expression: Expr) -> None:
        if isinstance(expression, relax.Call):
            found.append(expression)

    relax.analysis.post_order_visit(module["main"].body, visit)
    return found


def calls_of_functions(module: IRModule) -> list[relax.Call]:
    """Return the calls of TIR functions in ``main``, in order."""
    return [call for call in calls_of(module) if call.op == tvm.ir.Op.get("relax.call_tir")]


@relax.expr_functor.mutator
class _Lowering(relax.PyExprMutator):
    """Rewrites binding after binding; `_tensors` holds the packed ones by their variables in the original."""

    def __init__(self, module: IRModule, processor: Processor, takes_winograd: Callable[[int], bool]) -> None:
        super().__init__(module)
        self.weights: list[GenericConst] = []
        self._processor = processor
        self._takes_winograd = takes_winograd
        self._values = relax.analysis.get_var2val(module["main"])
        self._tensors: dict[relax.Var, _Tensor] = {}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        """Write a layer on packed tensors if it can be, else as it is."""
        var = binding.var
        tensor = self._lowered(binding.value)
        if tensor is None:
            super().visit_var_binding_(binding)
        elif isinstance(var, relax.DataflowVar):
            tensor.packed = self.builder_.emit(tensor.packed, var.name)
            self._tensors[var] = tensor
        else:
            packed = self.builder_.emit(tensor.packed, var.name)
            own = unpack(self.builder_, packed, tensor.channels)
            super().visit_var_binding_(relax.VarBinding(var, own))

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> Expr:
        """Return a tensor in its own form, which is written where it is first wanted."""
        tensor = self._tensors.get(var)
        if tensor is None:
            return super().visit_dataflow_var_(var)
        if tensor.plain is None:
            tensor.plain = self.builder_.emit(unpack(self.builder_, tensor.packed, tensor.channels), var.name)
        return tensor.plain

    def _lowered(self, value: Expr) -> _Tensor | None:
        """Return what a binding computes, packed; None if it is to stay as it is."""
        if isinstance(value, relax.TupleGetItem):
            return self._part(value)
        return self._called(value) if isinstance(value, relax.Call) else None

    def _called(self, call: relax.Call) -> _Tensor | None:
        """Return what a call computes, packed; None if it is to stay as it is."""
        if convolution.fits(call):
            call = cropping.uncropped(call, self._values)
            return self._convolved(call, self._blocks(call.args[0]))
        if groups.fits(call, self._processor.lanes):
            return self._in_groups(call)
        if depthwise.fits(call) and self._is_packed(call.args[0]):
            data = self._packed(call.args[0], self._block(call))
            return self._tensor(call, depthwise.convolved(self.builder_, data.packed, call, data.block))
        if pooling.fits(call) and self._is_packed(call.args[0]):
            data = self._tensors[call.args[0]]
            return self._tensor(call, pooling.pooled(self.builder_, data.packed, call), data.block)
        if (found := normalization.find(call, self._values)) and self._is_packed(found.data):
            data = self._tensors[found.data]
            return self._tensor(call, normalization.normalized(self.builder_, data.packed, found), data.block)
        if elementwise.fits(call) and any(map(self._is_packed, elementwise.operands(call))):
            return self._elementwise(call)
        if _is_concatenation(call) and all(map(self._is_packed, call.args[0])):
            return self._concatenated(call)
        return None

    def _convolved(self, call: relax.Call, data: Expr) -> _Tensor:
        """Return a convolution of data that have blocks of any size."""
        block, choice = self._block(call), winograd.fits(call)
        if choice and self._takes_winograd(len(self.weights)):
            packed = winograd.convolved(self.builder_, data, call, block)
        else:
            packed = convolution.convolved(self.builder_, data, call, block, self._processor)
        if choice:
            self.weights.append(_weight_of(packed))
        return self._tensor(call, packed)

    def _in_groups(self, call: relax.Call) -> _Tensor:
        """Return a convolution in groups, one after the other."""
        data, parts = self._packed(call.args[0], self._block(call)).packed, groups.parts(call)
        made = [
            self._convolved(part, self.builder_.emit(groups.sliced(data, at, len(parts))))
            for at, part in enumerate(parts)
        ]
        whole = relax.op.concat([self.builder_.emit(each.packed) for each in made], axis=_CHANNELS)
        return self._tensor(call, whole)

    def _elementwise(self, call: relax.Call) -> _Tensor:
        """Return elementwise operations, all operands in blocks as those of the first that is packed."""
        tensors = list(elementwise.operands(call))
        block = next(self._tensors[each].block for each in tensors if self._is_packed(each))
        packed = [
            elementwise.packed_constant(each, block)
            if isinstance(each, GenericConst)
            else self._packed(each, block).packed
            for each in tensors
        ]
        return self._tensor(call, elementwise.computed(call, packed), block)

    def _concatenated(self, call: relax.Call) -> _Tensor | None:
        """Return a concatenation of whole blocks: only behind the last channel may there be others."""
        parts = [self._tensors[each] for each in call.args[0]]
        block = parts[0].block
        if (
            any(each.block != block or each.channels % block for each in parts[:-1])
            or parts[-1].block != block
        ):
            return None
        return self._tensor(call, relax.op.concat([each.packed for each in parts], axis=_CHANNELS), block)

    def _part(self, item: relax.TupleGetItem) -> _Tensor | None:
        """Return a part of a packed tensor that is split between blocks."""
        call = self._values.get(item.tuple_value)
        if not splitting.fits(call) or not self._is_packed(call.args[0]):
            return None
        data, (first, last) = self._tensors[call.args[0]], splitting.bounds(call, item.index)
        if first % data.block or (last % data.block and last < data.channels):
            return None
        packed = splitting.blocks(data.packed, first // data.block, blocks_for(last, data.block))
        return _Tensor(last - first, packed, data.block)

    def _tensor(self, call: relax.Call, packed: Expr, block: int | None = None) -> _Tensor:
        return _Tensor(int(call.ty.shape[_CHANNELS]), packed, block or self._block(call))

    def _block(self, call: relax.Call) -> int:
        """Return how many channels fill a vector."""
        return self._processor.of_size(np.dtype(str(call.ty.dtype)).itemsize).lanes

    def _is_packed(self, expression: Expr) -> bool:
        return isinstance(expression, relax.Var) and expression in self._tensors

    def _packed(self, expression: Expr, block: int) -> _Tensor:
        """Return a tensor in blocks of this size."""
        if self._is_packed(expression) and self._tensors[expression].block == block:
            return self._tensors[expression]
        packed = self.builder_.emit(pack(self.builder_, self.visit_expr(expression), block))
        return _Tensor(int(expression.ty.shape[_CHANNELS]), packed, block)

    def _blocks(self, expression: Expr) -> Expr:
        """Return a tensor in blocks of any size: if it is not packed, those of one channel."""
        if self._is_packed(expression):
            return self._tensors[expression].packed
        return self.builder_.emit(pack(self.builder_, self.visit_expr(expression), 1))


def _is_concatenation(call: relax.Call) -> bool:
    """Return whether a call puts tensors of four axes one behind the other, channel after channel."""
    return (
        call.op == tvm.ir.Op.get("relax.concat")
        and isinstance(call.args[0], relax.Tuple)
        and elementwise.shape_of(call) is not None
        and int(call.attrs.axis) == _CHANNELS
    )


def _weight_of(call: relax.Call) -> GenericConst:
    (weight,) = (each for each in call.args[1] if isinstance(each, GenericConst))
    return weight
