"""The convolutions of a network, without a schedule and with the plain one that a search tries first."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import tvm
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.arg_info import ArgInfo
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY
from tuning.searching.plain import plain_schedules
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
        Its TIR function's.
    calls : int
        How often the network calls it.
    function : IRModule
        Not scheduled.
    image, weight, output : tuple of int
        Shapes in NCHW and OIHW.
    """

    name: str
    calls: int
    function: IRModule
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
    """

    function: IRModule
    shapes: tuple[Shape, ...]

    def build(self, target: tvm.target.Target) -> tvm.runtime.Module:
        """Compile it; the module's assembly can be read, and its object file written."""
        return tvm.tirx.build(self.function, target=target)


def heaviest(module: IRModule, target: tvm.target.Target, most: int) -> list[Convolution]:
    """Return the convolutions that have most multiply-adds in all their calls, the heaviest first."""
    tasks = ms.relax_integration.extract_tasks(
        prepare(module, target), target, module_equality=MODULE_EQUALITY
    )
    found = [_convolution(task) for task in tasks if _OPERATOR in task.task_name]
    return sorted(found, key=lambda each: -each.calls * each.multiply_adds)[:most]


def untuned(convolution: Convolution, target: tvm.target.Target) -> Kernel:
    """Return what TVM compiles without a schedule."""
    return Kernel(convolution.function, _shapes(ArgInfo.from_entry_func(convolution.function)))


def plain(convolution: Convolution, target: tvm.target.Target) -> Kernel:
    """Return the first candidate of a search: the most promising plain schedule.

    Raises
    ------
    LookupError
        If the convolution has no plain schedule.
    """
    function = convolution.function
    context = tune_context(function, target, heavy=True)
    for schedule in plain_schedules(function, processor_of(target), 1):
        candidate = replay(function, schedule.trace, context)
        if candidate is not None:
            rewritten = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(candidate.sch.mod)
            return Kernel(rewritten, _shapes(candidate.args_info))
    raise LookupError(f"{convolution.name} has no plain schedule")


KINDS: dict[str, Callable[[Convolution, tvm.target.Target], Kernel]] = {"untuned": untuned, "plain": plain}


def _convolution(task: ms.ExtractedTask) -> Convolution:
    """Its first arguments are image and weight; then comes what was fused into it, then the output."""
    function = task.dispatched[0]
    image, weight, *_, output = _shapes(ArgInfo.from_entry_func(function))
    return Convolution(task.task_name, int(task.weight), function, image, weight, output)


def _shapes(arguments: list[ArgInfo]) -> tuple[Shape, ...]:
    return tuple(tuple(map(int, each.shape)) for each in arguments)
