"""The loop nest of a function that matters: its largest reduction, and what each axis of its output is for.

The axis that only the second operand knows counts output channels: all its values read the same inputs. A
convolution in groups shares them within a group. The other axes are rows and columns of output pixels; a pool
or a depthwise convolution has nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from tvm.ir import Expr, IRModule, Range
from tvm.s_tir import SBlock, Schedule
from tvm.s_tir.schedule import ScheduleError
from tvm.tirx import FloorDiv, IterVar, Var
from tvm.tirx.analysis import undefined_vars

from tuning.searching.space import inlining

_PARALLEL, _REDUCTION = 0, 2


@dataclass(frozen=True)
class Nest:
    """A reduction whose output is indexed by its parallel axes, one after the other.

    Attributes
    ----------
    block : str
        Its name.
    extents : tuple of int
        Of the parallel axes.
    channels : int or None
        Which of them counts output channels that share their inputs.
    group : int
        So many channels in a row share them.
    rows, columns : int or None
        Which of them counts rows and columns of outputs.
    size : int
        Bytes of a sum.
    """

    block: str
    extents: tuple[int, ...]
    channels: int | None
    group: int
    rows: int | None
    columns: int | None
    size: int

    def extent(self, axis: int | None) -> int:
        """Return the extent of an axis; of none it is 1."""
        return 1 if axis is None else self.extents[axis]


def blocks_of(schedule: Schedule) -> list[SBlock]:
    """Return the blocks of a function, one for each step of its computation."""
    return [schedule.get(each) for each in schedule.get_child_blocks(schedule.get_sblock("root"))]


def inlined(module: IRModule) -> Schedule:
    """Return a schedule with elementwise functions put into their readers, as MetaSchedule does."""
    schedule = Schedule(module, debug_mask="none")
    rule = inlining()
    for name in [str(block.name_hint) for block in blocks_of(schedule)]:
        rule.apply(schedule, schedule.get_sblock(name))
    return schedule


def scheduled(schedule: Schedule, write: Callable[[Schedule], None]) -> Schedule | None:
    """Return a schedule as it is after writing; None if the function does not let itself be cut so."""
    try:
        write(schedule)
    except ScheduleError:
        return None
    return schedule


def find_nest(schedule: Schedule) -> Nest | None:
    """Return the largest reduction of a function; None if there is none, or its output has another form."""
    sums = [
        block
        for block in blocks_of(schedule)
        if _kinds(block) == {_PARALLEL, _REDUCTION} and block.init is not None
    ]
    if not sums:
        return None
    largest = max(sums, key=lambda block: prod(_extent(axis) for axis in block.iter_vars))
    return _nest(largest)


def _nest(block: SBlock) -> Nest | None:
    parallel = [axis for axis in block.iter_vars if axis.iter_type == _PARALLEL]
    written = [each.min for each in block.writes[0].region]
    in_order = list(block.iter_vars[: len(parallel)]) == parallel
    if not in_order or len(block.writes) != 1 or not _are(written, parallel):
        return None
    channels, group = _channels(block, parallel)
    others = [at for at, axis in enumerate(parallel) if at != channels and _extent(axis) > 1]
    rows, columns = [None, None, *others][-2:]
    extents = tuple(_extent(axis) for axis in parallel)
    size = np.dtype(str(block.writes[0].source.dtype)).itemsize
    return Nest(str(block.name_hint), extents, channels, group, rows, columns, size)


def _channels(block: SBlock, parallel: list[IterVar]) -> tuple[int | None, int]:
    """Return the axis of the channels, and how many of them share their inputs.

    The batch, too, is known to one operand only; the channels come after it.
    """
    for at, axis in reversed(list(enumerate(parallel))):
        reads = [_reading(read.region, axis.var) for read in block.reads]
        if len(reads) == 2 and "whole" in reads:
            other = reads[1 - reads.index("whole")]
            if other == "not":
                return at, _extent(axis)
            if isinstance(other, int):
                return at, other
    return None, 1


def _reading(region: Sequence[Range], var: Var) -> "str | int":
    """Tell how a read depends on a variable: ``not``, ``whole`` (an index), its divisor, or ``other``."""
    indices = [each.min for each in region if _holds(each.min, var)]
    if not indices:
        return "not"
    if len(indices) == 1 and indices[0].same_as(var):
        return "whole"
    divisors = [divisor for index in indices for divisor in _divisors(index, var)]
    return divisors[0] if len(divisors) == 1 else "other"


def _holds(expression: Expr, var: Var) -> bool:
    return any(each.same_as(var) for each in undefined_vars(expression))


def _divisors(expression: Expr, var: Var) -> list[int]:
    """Return what the variable is divided by, in sums and products of it."""
    if isinstance(expression, FloorDiv) and expression.a.same_as(var):
        return [int(expression.b)]
    parts = [getattr(expression, side, None) for side in ("a", "b")]
    return [divisor for part in parts if part is not None for divisor in _divisors(part, var)]


def _are(expressions: list[Expr], axes: list[IterVar]) -> bool:
    return len(expressions) == len(axes) and all(
        expression.same_as(axis.var) for expression, axis in zip(expressions, axes, strict=True)
    )


def _kinds(block: SBlock) -> set[int]:
    return {int(axis.iter_type) for axis in block.iter_vars}


def _extent(axis: IterVar) -> int:
    return int(axis.dom.extent)
