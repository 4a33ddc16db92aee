"""Plain schedules of pools and depthwise convolutions of packed tensors, without search.

Such a function reduces a window of each channel alone, and the channels of a block lie together: they are the
vector. A row of outputs is cut into tiles of columns whose results stay in registers while the window is
unrolled. Padding is read in place: once all is unrolled, only the loads at the edges ask whether there is
an image. Rows of all blocks go parallel.

The number of columns is a sampling instruction of MetaSchedule, so that evolution goes on from here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from tvm.ir import IRModule
from tvm.s_tir import SBlock, Schedule
from tvm.tirx import BufferRegion, IterVar

from tuning.searching.blocking import divisors_of
from tuning.searching.nest import blocks_of, inlined, scheduled
from tuning.searching.processor import Processor

_PARALLEL, _REDUCTION = 0, 2
_AXES = 5
_COLUMNS, _LANE = 3, 4
_FOR_RESULTS, _BESIDE_WEIGHTS = 3 / 4, 1 / 2
_MOST_COLUMNS = 24
_MOST_UNROLLED = 512


@dataclass(frozen=True)
class _Windows:
    """A reduction: its block's name, the columns of its output, channels together, whether it has weights."""

    block: str
    columns: int
    lanes: int
    weighted: bool


def plain_window_schedules(module: IRModule, processor: Processor, most: int) -> list[Schedule]:
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
    windows = _find(inlined(module))
    if windows is None:
        return []
    made = (
        scheduled(inlined(module), partial(_write, name=windows.block, columns=columns))
        for columns in _choices(windows, processor)
    )
    return list(islice(filter(None, made), most))


def is_window(module: IRModule) -> bool:
    """Return whether a function reduces windows of packed channels, each channel alone."""
    return _find(inlined(module)) is not None


def _find(schedule: Schedule) -> _Windows | None:
    """Return the one reduction of a function, if all that it reads and writes has its channels innermost."""
    reductions = [block for block in blocks_of(schedule) if block.init is not None]
    if len(reductions) != 1:
        return None
    (block,) = reductions
    axes = block.iter_vars
    kinds = [int(axis.iter_type) for axis in axes]
    if len(axes) <= _AXES or kinds != [_PARALLEL] * _AXES + [_REDUCTION] * (len(axes) - _AXES):
        return None
    if not _is_in_order(block) or not all(_is_along(read, axes[_LANE]) for read in block.reads):
        return None
    columns, lanes = (int(axes[at].dom.extent) for at in (_COLUMNS, _LANE))
    return _Windows(str(block.name_hint), columns, lanes, len(block.reads) > 1)


def _is_in_order(block: SBlock) -> bool:
    written = [each.min for each in block.writes[0].region]
    return len(written) == _AXES and all(
        index.same_as(axis.var) for index, axis in zip(written, block.iter_vars, strict=False)
    )


def _is_along(read: BufferRegion, lane: IterVar) -> bool:
    return read.region[-1].min.same_as(lane.var)


def _choices(windows: _Windows, processor: Processor) -> Iterator[int]:
    """Yield numbers of columns: as many as registers hold, half as many, and one.

    Weights, which are many, take the other registers; a pool needs few more than those of its results.
    """
    vectors = max(1, windows.lanes // processor.lanes)
    share = _BESIDE_WEIGHTS if windows.weighted else _FOR_RESULTS
    most = max(1, min(int(processor.registers * share) // vectors, _MOST_COLUMNS))
    found = [_tile(windows.columns, each) for each in (most, most // 2)]
    yield from dict.fromkeys([*found, 1])


def _tile(columns: int, most: int) -> int:
    """Return the columns of a tile: a divisor that is more than half of the most, else tiles about equal."""
    divisor = max(each for each in divisors_of(columns) if each <= max(most, 1))
    return divisor if 2 * divisor > most else -(-columns // -(-columns // most))


def _write(schedule: Schedule, name: str, columns: int) -> None:
    block = schedule.get_sblock(name)
    readers = schedule.get_consumers(block)
    reader = readers[0] if len(readers) == 1 else schedule.cache_write(block, 0, "global")
    for padding in schedule.get_producers(block):
        schedule.compute_inline(padding)
    loops = schedule.get_loops(block)
    (*outer, x, lane), window = loops[:_AXES], loops[_AXES:]
    counts = list(range(1, _MOST_COLUMNS + 1))
    count = schedule.sample_categorical(counts, [1 / len(counts)] * len(counts), decision=columns - 1)
    tile, column = schedule.split(x, [None, count])
    schedule.reorder(*outer, tile, *window, column, lane)
    schedule.vectorize(lane)
    schedule.reverse_compute_at(reader, tile, preserve_unit_loops=True)
    schedule.parallel(schedule.fuse(*outer))
    *_, column_of_result, lane_of_result = schedule.get_loops(reader)
    schedule.unroll(column_of_result)
    schedule.vectorize(lane_of_result)
    schedule.annotate(tile, "pragma_auto_unroll_max_step", _MOST_UNROLLED)
    schedule.annotate(tile, "pragma_unroll_explicit", 1)
    schedule.decompose_reduction(block, window[0])
