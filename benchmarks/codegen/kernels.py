"""The convolutions of a network: as TVM compiles them without a schedule, and as tuning begins with them.

Without a schedule a convolution is TVM's own, of tensors in NCHW. Tuning begins with the first plain schedule
of the function that computes it on packed tensors, or of the same one where no other does. On packed tensors
more may be computed than is wanted: channels that fill up the last block, and sums beyond a row's end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import tvm
from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock
from tvm.tirx import IterVar

from relay_passes import inline_composites
from tuning.lowering.choice import forms
from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY
from tuning.searching.nest import blocks_of
from tuning.searching.plain import plain_schedules
from tuning.searching.plain_packed import is_packed, plain_packed_schedules
from tuning.searching.processor import processor_of
from tuning.searching.space import replay, tune_context

Shape = tuple[int, ...]

_OPERATOR = "conv2d"


@dataclass(frozen=True)
class Convolution:
    """A convolution of a network, with what was fused into it.

    Attributes
    ----------
    name : str
        Of the function in NCHW.
    calls : int
        How often the network calls it.
    function, packed : IRModule
        In NCHW, and as it is tuned; not scheduled.
    image, weight, output : tuple of int
        Shapes in NCHW and OIHW.
    """

    name: str
    calls: int
    function: IRModule
    packed: IRModule
    image: Shape
    weight: Shape
    output: Shape

    @property
    def multiply_adds(self) -> int:
        """Of one call: the output's size times channels and window that go into each of its values."""
        return prod(self.output) * prod(self.weight[1:])


@dataclass(frozen=True)
class Kernel:
    """A convolution with or without a schedule, ready to be compiled.

    Attributes
    ----------
    function : IRModule
        Its weights are in the layout that the schedule wants.
    shapes : tuple of tuple of int
        Of its arguments, all of float32.
    multiply_adds : int
        That go into the convolution's result.
    padding : float
        How many are computed for each of them, at least 1.
    """

    function: IRModule
    shapes: tuple[Shape, ...]
    multiply_adds: int
    padding: float

    def build(self, target: tvm.target.Target) -> tvm.runtime.Module:
        """Compile it; the module's assembly can be read, and its object file written."""
        return tvm.tirx.build(self.function, target=target)


def heaviest(module: IRModule, target: tvm.target.Target, most: int) -> list[Convolution]:
    """Return the convolutions that have most multiply-adds in all their calls, the heaviest first.

    Each is paired with a function on packed tensors by its sizes, which may have others fused to it. One in
    groups that is tuned as several convolutions is left out.

    Parameters
    ----------
    module : IRModule
        A network, its weights as constants in place.
    target : tvm.target.Target
        A processor.
    most : int
        How many are wanted.
    """
    module, lanes = inline_composites(module), processor_of(target).lanes
    direct = forms(module, target)[0].module
    packed = {_in_blocks(*_sizes(each), lanes): each.dispatched[0] for each in _tasks(direct, target)}
    found = (_convolution(each, packed, lanes) for each in _tasks(module, target))
    return sorted(filter(None, found), key=lambda each: -each.calls * each.multiply_adds)[:most]


def untuned(convolution: Convolution, target: tvm.target.Target) -> Kernel:
    """Return what TVM compiles without a schedule."""
    function = convolution.function
    return _kernel(convolution, function, function, ArgInfo.from_entry_func(function))


def plain(convolution: Convolution, target: tvm.target.Target) -> Kernel:
    """Return the first candidate of a search: the most promising plain schedule.

    Raises
    ------
    LookupError
        If the convolution has no plain schedule.
    """
    function = convolution.packed
    context = tune_context(function, target, heavy=True)
    schedules = plain_packed_schedules if is_packed(function) else plain_schedules
    for schedule in schedules(function, processor_of(target), 1):
        candidate = replay(function, schedule.trace, context)
        if candidate is not None:
            rewritten = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(candidate.sch.mod)
            return _kernel(convolution, function, rewritten, candidate.args_info)
    raise LookupError(f"{convolution.name} has no plain schedule")


KINDS: dict[str, Callable[[Convolution, tvm.target.Target], Kernel]] = {"untuned": untuned, "plain": plain}


def _tasks(module: IRModule, target: tvm.target.Target) -> Iterator[ms.ExtractedTask]:
    prepared = prepare(module, target)
    tasks = ms.relax_integration.extract_tasks(prepared, target, module_equality=MODULE_EQUALITY)
    return (task for task in tasks if _OPERATOR in task.task_name)


def _convolution(task: ms.ExtractedTask, packed: dict[Shape, IRModule], lanes: int) -> Convolution | None:
    sizes = _sizes(task)
    tuned = packed.get(_in_blocks(*sizes, lanes))
    if tuned is None:
        return None
    return Convolution(task.task_name, int(task.weight), task.dispatched[0], tuned, *sizes)


def _sizes(task: ms.ExtractedTask) -> tuple[Shape, Shape, Shape]:
    """Return the first arguments, image and weight, and the last, the output; others were fused into it."""
    image, weight, *_, output = _shapes(ArgInfo.from_entry_func(task.dispatched[0]))
    return image, weight, output


def _in_blocks(image: Shape, weight: Shape, output: Shape, lanes: int) -> Shape:
    """Return what the sizes in NCHW and of packed tensors have in common: channels are counted in blocks."""
    tensors = ((*each, 1)[:5] for each in (image, output))
    counted = [(batch, -(-channels * block // lanes), *pixels) for batch, channels, *pixels, block in tensors]
    return (*counted[0], *weight[1:4], *counted[1])


def _kernel(
    convolution: Convolution, function: IRModule, scheduled: IRModule, arguments: list[ArgInfo]
) -> Kernel:
    useful = convolution.multiply_adds
    return Kernel(scheduled, _shapes(arguments), useful, _computed(function) / useful)


def _computed(function: IRModule) -> int:
    """Return how many terms a function's sums have, those that fill up blocks and rows among them."""
    axes = [block.iter_vars for block in blocks_of(Schedule(function, debug_mask="none"))]
    return sum(
        prod(int(axis.dom.extent) for axis in each)
        for each in axes
        if any(axis.iter_type == IterVar.CommReduce for axis in each)
    )


def _shapes(arguments: list[ArgInfo]) -> tuple[Shape, ...]:
    return tuple(tuple(map(int, each.shape)) for each in arguments)
