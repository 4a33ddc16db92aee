"""Plain schedules of the packed convolution: what an engineer would write, without search.

The innermost part keeps a block of sums in registers: some vectors of output channels for some neighbouring
pixels. Each step loads the vectors of weights and multiplies them with a pixel's value of one input channel.
Bias, ReLU and what else follows are applied to the block as soon as it is summed up.

Around it lies a tile: rows of pixels whose inputs fit into the cache, and the channels of one block. Where
the weights for these channels take more than the cache, the sum runs over a part of the input channels at a
time, for the whole tile, whose sums then wait in memory. Tiles go parallel, in the order that reads less.

As with `plain`, sizes are MetaSchedule's sampling instructions with decisions, from which evolution goes on.
"""

from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import prod

from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tuning.lowering.packed.convolution import PIXELS, SUMS
from tuning.searching.blocking import Blocking, divisors_of, packed_blockings
from tuning.searching.nest import blocks_of, scheduled
from tuning.searching.processor import Processor

_BYTES = 4
_FIRST_CACHE = 32 * 1024
_SECOND_CACHE = 512 * 1024
_BYTES_PER_CYCLE = 16
_STEPS_PER_CYCLE = 2
_IN_REGISTERS = 16
_IN_CACHE = 64
_STEPS = 8
_STREAMS = 16


@dataclass(frozen=True)
class _Sizes:
    """Extents of the sums, and how many input channels lie together."""

    batch: int
    blocks: int
    rows: int
    columns: int
    lanes: int
    inputs: int
    kernel: tuple[int, int]
    together: int
    pixel_bytes: float


@dataclass(frozen=True)
class _Choice:
    """One plain schedule.

    Attributes
    ----------
    block : Blocking
        What is kept in registers.
    rows, columns : int
        Of a tile.
    inputs : int
        Input channels that are summed up before the next block.
    channels_first : bool
        Whether the tiles with the same channels, not those with the same pixels, come one after the other.
    """

    block: Blocking
    rows: int
    columns: int
    inputs: int
    channels_first: bool


def is_packed(module: IRModule) -> bool:
    """Return whether a function is the packed convolution, perhaps with elementwise functions after it."""
    return SUMS in {str(block.name_hint) for block in blocks_of(Schedule(module, debug_mask="none"))}


def plain_packed_schedules(module: IRModule, processor: Processor, most: int) -> list[Schedule]:
    """Return plain schedules of the packed convolution in order of promise.

    Parameters
    ----------
    module : IRModule
        One TIR function ``main`` that is the packed convolution.
    processor : Processor
        What it is for.
    most : int
        How many are wanted at most.
    """
    sizes = _sizes(module)
    made = (
        scheduled(Schedule(module, debug_mask="none"), partial(_write, sizes=sizes, choice=choice))
        for choice in _choices(sizes, processor)
    )
    return list(islice(filter(None, made), most))


def _sizes(module: IRModule) -> _Sizes:
    schedule = Schedule(module, debug_mask="none")
    sums = schedule.get(schedule.get_sblock(SUMS))
    extents = [int(axis.dom.extent) for axis in sums.iter_vars]
    batch, blocks, rows, columns, lanes, inputs, *kernel = extents
    image = [int(each) for each in sums.reads[0].source.shape]
    pixels = image[2] * image[3] / (rows * columns)
    return _Sizes(
        batch, blocks, rows, columns, lanes, inputs, tuple(kernel), image[4], pixels * inputs * _BYTES
    )


def _choices(sizes: _Sizes, processor: Processor) -> list[_Choice]:
    """Two blocks of sums, each with all input channels at once and with a part of them at a time."""
    blocks = packed_blockings(sizes.blocks, sizes.columns, sizes.lanes, processor, 2)
    choices = [
        min(_tilings(sizes, block, inputs), key=lambda choice: _cycles(sizes, choice, processor))
        for block in blocks
        for inputs in _inputs(sizes, block)
    ]
    return list(dict.fromkeys(choices))


def _inputs(sizes: _Sizes, block: Blocking) -> list[int]:
    """Return how many input channels are summed up at a time: all, and as many as the first cache holds.

    Fewer are better where their weights are many, and where their pixels come from memory: blocks of channels
    lie far apart, and only a few such places are read ahead.
    """
    fitting = [
        each
        for each in divisors_of(sizes.inputs)
        if each * _weight_bytes(sizes, block) <= _FIRST_CACHE / 4 and each % _STEPS == 0
    ]
    ways = [sizes.inputs, max(fitting, default=_STEPS if sizes.inputs % _STEPS == 0 else sizes.inputs)]
    many_weights = sizes.inputs * _weight_bytes(sizes, block) > _SECOND_CACHE / 4
    image = sizes.rows * sizes.columns * sizes.pixel_bytes
    far_apart = image > _SECOND_CACHE and sizes.inputs > _STREAMS * sizes.together
    return ways[::-1] if many_weights or far_apart else ways


def _tilings(sizes: _Sizes, block: Blocking, inputs: int) -> list[_Choice]:
    """Return all tiles of a part of a row, or of some rows."""
    columns = [each * block.columns for each in divisors_of(sizes.columns // block.columns)]
    tiles = [(1, each) for each in columns] + [(each, sizes.columns) for each in divisors_of(sizes.rows)[1:]]
    return [
        _Choice(block, *tile, inputs, channels_first)
        for tile in tiles[::-1]
        for channels_first in (False, True)
    ]


def _cycles(sizes: _Sizes, choice: _Choice, processor: Processor) -> float:
    """Return about how many cycles it takes, those of idle cores included."""
    tile = choice.rows * choice.columns
    tiles = sizes.rows * sizes.columns // tile
    waiting = _BYTES * tile * choice.block.channels * choice.block.lanes
    parts = sizes.inputs // choice.inputs
    groups = sizes.blocks // choice.block.channels
    weights = sizes.inputs * _weight_bytes(sizes, choice.block)
    images = tiles * tile * sizes.pixel_bytes
    if choice.channels_first:
        reads = weights * groups + images * (groups if images > _SECOND_CACHE / 2 else 1)
    else:
        stay = weights * groups + tile * sizes.pixel_bytes <= _SECOND_CACHE / 2
        reads = images * (1 if tile * sizes.pixel_bytes <= _SECOND_CACHE / 2 else groups)
        reads += weights * groups * (1 if stay else tiles)
    if parts > 1 and waiting + choice.inputs * _weight_bytes(sizes, choice.block) > _FIRST_CACHE:
        reads += 2 * parts * waiting * tiles * groups
    steps = tiles * tile * groups * choice.block.channels * sizes.inputs * prod(sizes.kernel)
    jobs = sizes.batch * groups * tiles
    idle = -(-jobs // processor.cores) * processor.cores / jobs
    return idle * (steps / _STEPS_PER_CYCLE + reads / _BYTES_PER_CYCLE)


def _weight_bytes(sizes: _Sizes, block: Blocking) -> int:
    """Return the bytes of the weights of one input channel for a block of sums."""
    return prod(sizes.kernel) * block.channels * block.lanes * _BYTES


def _write(schedule: Schedule, sizes: _Sizes, choice: _Choice) -> None:
    _Plain(schedule, sizes, choice).write()


class _Plain:
    """Writes one plain schedule."""

    def __init__(self, schedule: Schedule, sizes: _Sizes, choice: _Choice) -> None:
        self._schedule = schedule
        self._sizes = sizes
        self._choice = choice

    def write(self) -> None:
        schedule, choice = self._schedule, self._choice
        last = self._last_block()
        block = schedule.get_sblock(SUMS)
        self._pixels()
        batch, channel, y, x, lane, term, row, column = schedule.get_loops(block)
        size = choice.block
        step = max(each for each in divisors_of(choice.inputs) if each <= _STEPS)
        channel, vector = self._cut(channel, _IN_REGISTERS, size.channels)
        y, tile_row = self._cut(y, _IN_CACHE, choice.rows)
        x, tile_x, pixel = self._cut(x, _IN_REGISTERS, choice.columns // size.columns, size.columns)
        part, term, step = self._cut(term, _STEPS, choice.inputs // step, step)
        inner = (vector, pixel) if size.columns < size.channels else (pixel, vector)
        window = (row, column, step)
        whole = choice.inputs == self._sizes.inputs
        tile = (tile_row, tile_x, part) if whole else (part, tile_row, tile_x)
        places = (channel, y, x) if choice.channels_first else (y, x, channel)
        schedule.reorder(batch, *places, *tile, term, *window, *inner, lane)
        job = schedule.fuse(batch, *places)
        schedule.reverse_compute_at(last, tile_x if whole else job, preserve_unit_loops=True)
        *_, epilogue_lane = schedule.get_loops(last)
        schedule.vectorize(epilogue_lane)
        schedule.vectorize(lane)
        self._unroll(step, *inner)
        if whole:
            for loop in schedule.get_loops(last)[-3:-1]:
                schedule.unroll(loop)
        if self._sizes.inputs < _STEPS:
            schedule.unroll(column)
        schedule.parallel(job)
        start = schedule.decompose_reduction(block, part)
        *_, one, other, start_lane = schedule.get_loops(start)
        self._unroll(one, other)
        schedule.vectorize(start_lane)

    def _last_block(self) -> SBlockRV:
        """Put the functions of the sums into the last of them, whose pixels lie in rows as the sums do."""
        schedule = self._schedule
        *others, last = [str(block.name_hint) for block in blocks_of(schedule)]
        for name in others:
            if name not in (PIXELS, SUMS):
                schedule.compute_inline(schedule.get_sblock(name))
        block = schedule.get_sblock(last)
        if self._sizes.rows < int(schedule.get(schedule.get_loops(block)[2]).extent):
            width = int(schedule.get(schedule.get_loops(block)[3]).extent)
            schedule.transform_block_layout(block, lambda n, k, y, x, b: (n, k, y * width + x, b))
        return block

    def _pixels(self) -> None:
        """Write padding, if there is any, before everything else."""
        schedule = self._schedule
        if PIXELS not in {str(block.name_hint) for block in blocks_of(schedule)}:
            return
        *outer, _, lane = schedule.get_loops(schedule.get_sblock(PIXELS))
        schedule.parallel(schedule.fuse(*outer))
        if self._sizes.together > 1:
            schedule.vectorize(lane)

    def _cut(self, loop: LoopRV, most: int, *inner: int) -> list[LoopRV]:
        outer = int(self._schedule.get(loop).extent) // prod(inner)
        factors = self._schedule.sample_perfect_tile(loop, len(inner) + 1, most, decision=[outer, *inner])
        return list(self._schedule.split(loop, factors))

    def _unroll(self, *loops: LoopRV) -> None:
        for loop in loops:
            self._schedule.unroll(loop)
