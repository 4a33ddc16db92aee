"""The plain schedule of local response normalisation of packed tensors, without search.

Rows go parallel, each in tiles of columns. The squares of a tile stay in the first cache, and the sums of
neighbouring squares in registers, channels in vectors. The tile is a sampling instruction of MetaSchedule.
"""

from math import prod

from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from tuning.lowering.packed.normalization import SQUARES, SUMS
from tuning.searching.blocking import divisors_of
from tuning.searching.nest import blocks_of, inlined, scheduled
from tuning.searching.processor import Processor

_TILE_BYTES = 16 * 1024
_BYTES = 4
_MOST_COLUMNS = 64


def is_normalization(module: IRModule) -> bool:
    """Return whether a function is a normalisation of packed channels, perhaps with others after it."""
    names = {str(block.name_hint) for block in blocks_of(Schedule(module, debug_mask="none"))}
    return {SQUARES, SUMS} <= names


def plain_normalization_schedules(module: IRModule, processor: Processor, most: int) -> list[Schedule]:
    """Return the plain schedule of a normalisation, if one is wanted; none if it does not let itself be cut.

    Parameters
    ----------
    module : IRModule
        One TIR function ``main`` that is a normalisation.
    processor : Processor
        What it is for.
    most : int
        How many are wanted at most.
    """
    made = scheduled(inlined(module), _write)
    return [] if made is None else [made][:most]


def _write(schedule: Schedule) -> None:
    squares, sums = schedule.get_sblock(SQUARES), schedule.get_sblock(SUMS)
    (last,) = schedule.get_consumers(sums)
    batch, block, row, column, lane = schedule.get_loops(last)
    sizes = schedule.sample_perfect_tile(column, 2, _MOST_COLUMNS, decision=_tiles(schedule, last, squares))
    tile, column = schedule.split(column, sizes)
    schedule.reorder(batch, row, tile, block, column, lane)
    schedule.vectorize(lane)
    schedule.parallel(schedule.fuse(batch, row))
    schedule.compute_at(sums, column, preserve_unit_loops=True)
    schedule.compute_at(squares, tile, preserve_unit_loops=True)
    _write_squares(schedule, squares)
    _write_sums(schedule, sums)


def _write_squares(schedule: Schedule, squares: SBlockRV) -> None:
    """Lay the squares of a pixel out in a row, and write them a block at a time."""
    *_, lane = schedule.get_loops(squares)
    size = int(schedule.get(lane).extent)
    schedule.vectorize(lane)
    schedule.transform_layout(squares, ("write", 0), lambda n, y, x, b, lane: (n, y, x, b * size + lane))


def _write_sums(schedule: Schedule, sums: SBlockRV) -> None:
    *_, lane, near = schedule.get_loops(sums)
    schedule.reorder(near, lane)
    schedule.vectorize(lane)
    schedule.unroll(near)
    schedule.decompose_reduction(sums, near)


def _tiles(schedule: Schedule, last: SBlockRV, squares: SBlockRV) -> list[int]:
    """Return how many tiles there are, and their columns: as many as fit the cache."""
    columns = int(schedule.get(last).iter_vars[3].dom.extent)
    channels = prod(int(axis.dom.extent) for axis in schedule.get(squares).iter_vars[3:])
    fitting = [
        each
        for each in divisors_of(columns)
        if each <= _MOST_COLUMNS and each * channels * _BYTES <= _TILE_BYTES
    ]
    tile = max(fitting, default=1)
    return [columns // tile, tile]
