"""Plain schedules: what an engineer would write for a convolution, a product or a pool, without search.

Two of them, by the axis that goes into vectors. *Channels*: the vectors hold output channels; sums are kept
in a layout with the channels innermost, weights are rearranged when the network is built, and each input is
broadcast. It wants channels that share their inputs. *Columns*: the vectors hold neighbouring output columns,
for depthwise convolutions, pools, and convolutions whose channels do not fill a vector.

Padding is written for a row of outputs at a time, and so anew for each block of channels. Where that block is
narrow it would be a good part of the work, and is done once before everything else.

A plain schedule is a point in a design space of its own: its tile sizes, places and unrolling are
MetaSchedule's sampling instructions with decisions made by `blocking`. So the evolutionary search goes on
from it, and its trace is stored and replayed as any other.

Packed channels are the matter of others: for pools and depthwise convolutions it is `plain_windows`, for
local response normalisation `plain_normalization`.
"""

from dataclasses import dataclass
from functools import partial
from itertools import islice

from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tuning.searching.blocking import Blocking, blockings, lanes_of
from tuning.searching.nest import Nest, find_nest, inlined, scheduled
from tuning.searching.plain_normalization import is_normalization, plain_normalization_schedules
from tuning.searching.plain_windows import is_window, plain_window_schedules
from tuning.searching.processor import Processor

_JOBS_PER_CORE = 16
_LONGEST_VECTOR = 64
_UNROLL_STEPS = (0, 16, 64, 512)
_BLOCK, _WHOLE = 2, 3
_MOST_COLUMNS = 16
_FEW_LANES = 1 / 4
_NARROW = 16
_AT_ROOT = -1


@dataclass(frozen=True)
class _Choice:
    """One plain schedule: its block of sums, whether vectors hold channels, how far loops are unrolled."""

    block: Blocking
    channels: bool
    unroll: int


def plain_schedules(module: IRModule, processor: Processor, most: int) -> list[Schedule]:
    """Return plain schedules of a function in order of promise; none for a function of another kind.

    Parameters
    ----------
    module : IRModule
        One TIR function ``main``.
    processor : Processor
        What it is for.
    most : int
        How many are wanted at most.
    """
    if is_window(module):
        return plain_window_schedules(module, processor, most)
    if is_normalization(module):
        return plain_normalization_schedules(module, processor, most)
    nest = find_nest(inlined(module))
    if nest is None:
        return []
    made = (
        scheduled(inlined(module), partial(_write, nest=nest, choice=choice, processor=processor))
        for choice in _choices(nest, processor.of_size(nest.size))
    )
    return list(islice(filter(None, made), most))


def is_packed_light(module: IRModule) -> bool:
    """Return whether a function is a light layer of packed tensors, which has plain schedules of its own."""
    return is_window(module) or is_normalization(module)


def _choices(nest: Nest, processor: Processor) -> list[_Choice]:
    """Both kinds if both are possible, that with the fuller vectors first."""
    by_channels, by_columns = _by_channels(nest, processor), _by_columns(nest, processor)
    if not by_channels or by_channels[0].block.lanes < _FEW_LANES * processor.lanes:
        return by_columns + by_channels
    return by_channels + by_columns[:1]


def _by_channels(nest: Nest, processor: Processor) -> list[_Choice]:
    if nest.channels is None:
        return []
    lanes = lanes_of(nest.group, processor)
    rows, columns = nest.extent(nest.rows), nest.extent(nest.columns)
    return _unrolled(blockings(nest.group // lanes, rows, columns, lanes, processor, 2), channels=True)


def _by_columns(nest: Nest, processor: Processor) -> list[_Choice]:
    if nest.columns is None:
        return []
    lanes = lanes_of(nest.extent(nest.columns), processor)
    vectors = nest.extent(nest.columns) // lanes
    return _unrolled(
        blockings(nest.group, nest.extent(nest.rows), vectors, lanes, processor, 2), channels=False
    )


def _unrolled(blocks: list[Blocking], channels: bool) -> list[_Choice]:
    """The best block with its own loops unrolled, the next, and the best with the window's unrolled too."""
    return [
        *(_Choice(block, channels, _BLOCK) for block in blocks),
        *(_Choice(block, channels, _WHOLE) for block in blocks[:1]),
    ]


def _write(schedule: Schedule, nest: Nest, choice: _Choice, processor: Processor) -> None:
    _tile(schedule, nest, choice)
    _annotate(schedule, choice, processor)


def _tile(schedule: Schedule, nest: Nest, choice: _Choice) -> None:
    """Cut the loops: outer ones, the reduction, and the block of sums in the middle of it."""
    block = schedule.get_sblock(nest.block)
    reader = _reader(schedule, block)
    size = choice.block
    if choice.channels:
        _pack(schedule, block, nest.channels, size.lanes)
    loops = schedule.get_loops(block)
    parallel, reduction = list(loops[: len(nest.extents)]), list(loops[len(nest.extents) :])
    vector_axis = nest.channels if choice.channels else nest.columns
    parallel[vector_axis], vector = schedule.split(parallel[vector_axis], [None, size.lanes])
    inner: list[LoopRV] = []
    for axis, count in ((nest.channels, size.channels), (nest.rows, size.rows), (nest.columns, size.columns)):
        if axis is not None:
            parallel[axis], part = _cut(schedule, parallel[axis], count)
            inner.append(part)
    schedule.reorder(*parallel, *reduction, *inner, vector)
    schedule.vectorize(vector)
    producers = [each for each in schedule.get_producers(block) if _is_placeable(schedule, each)]
    schedule.reverse_compute_at(reader, parallel[-1], preserve_unit_loops=True)
    for each in producers:
        _place(schedule, each, _AT_ROOT if _is_narrow(choice) else len(parallel) - 2)


def _is_narrow(choice: _Choice) -> bool:
    return choice.channels and choice.block.lanes * choice.block.channels <= _NARROW


def _reader(schedule: Schedule, block: SBlockRV) -> SBlockRV:
    """Return the one block that reads the sums; without one they are copied to the output."""
    readers = schedule.get_consumers(block)
    return readers[0] if len(readers) == 1 else schedule.cache_write(block, 0, "global")


def _pack(schedule: Schedule, block: SBlockRV, channels: int, lanes: int) -> None:
    """Lay the sums out with a vector of channels innermost."""
    schedule.transform_layout(
        block,
        ("write", 0),
        lambda *index: (
            *index[:channels],
            index[channels] // lanes,
            *index[channels + 1 :],
            index[channels] % lanes,
        ),
    )


def _cut(schedule: Schedule, loop: LoopRV, inner: int) -> tuple[LoopRV, LoopRV]:
    extent = int(schedule.get(loop).extent)
    factors = schedule.sample_perfect_tile(loop, 2, _MOST_COLUMNS, decision=[extent // inner, inner])
    return tuple(schedule.split(loop, factors))


def _is_placeable(schedule: Schedule, block: SBlockRV) -> bool:
    return not any(axis.iter_type for axis in schedule.get(block).iter_vars)


def _place(schedule: Schedule, block: SBlockRV, depth: int) -> None:
    place = schedule.sample_compute_location(block, decision=depth)
    schedule.compute_at(block, place, preserve_unit_loops=True)


def _annotate(schedule: Schedule, choice: _Choice, processor: Processor) -> None:
    """Leave the rest to the postprocessors: which loops go parallel, other vectors, and unrolling."""
    root = schedule.get_sblock("root")
    schedule.annotate(root, "meta_schedule.parallel", _JOBS_PER_CORE * processor.cores)
    schedule.annotate(root, "meta_schedule.vectorize", _LONGEST_VECTOR)
    steps = len(_UNROLL_STEPS)
    unroll = schedule.sample_categorical(list(_UNROLL_STEPS), [1 / steps] * steps, decision=choice.unroll)
    schedule.annotate(root, "meta_schedule.unroll_explicit", unroll)
