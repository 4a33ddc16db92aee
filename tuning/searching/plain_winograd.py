"""Plain schedules of Winograd's convolution: what an engineer would write, without search.

The image is cut into strips of tile rows. The inputs of a strip are transformed once, channels in vectors,
for all blocks of output channels. For such a block, each of the 36 products keeps its sums in registers, as
the direct convolution does, with tiles in place of pixels; the sums of all 36 are a small buffer, of which
the outputs are made a row of tiles at a time. Transforms are unrolled: they are a few additions of vectors,
whose coefficients are constants.

Strips go parallel. Where they are too few for the cores, all inputs are transformed first, and blocks of
channels go parallel, too. As with `plain`, sizes are MetaSchedule's sampling instructions.
"""

from dataclasses import dataclass

from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from tuning.lowering.winograd import (
    IMAGE,
    INPUT,
    INPUT_ROWS,
    OUTPUT,
    OUTPUT_ROWS,
    PIXELS,
    PRODUCTS,
    TAPS,
    TILE,
)
from tuning.searching.blocking import Blocking, blockings, divisors_of, lanes_of
from tuning.searching.nest import blocks_of
from tuning.searching.processor import Processor

_STRIP_BYTES = 512 * 1024
_BYTES = 4
_POINTS = (TILE + TAPS - 1) ** 2
_JOBS_PER_CORE = 3
_MOST_TILES = 64
_MOST_TERMS = 4


@dataclass(frozen=True)
class _Sizes:
    """Of a function: tiles, channels, and how many channels fill a vector."""

    batch: int
    rows: int
    columns: int
    inputs: int
    outputs: int
    input_lanes: int
    output_lanes: int

    @property
    def terms(self) -> int:
        """Input channels in a row, whose transformed inputs lie together."""
        return max(each for each in divisors_of(self.inputs) if each <= _MOST_TERMS)


@dataclass(frozen=True)
class _Choice:
    """One plain schedule: tile rows of a strip, its block of sums, whether strips alone go parallel."""

    strip: int
    block: Blocking
    strips: bool


def is_winograd(module: IRModule) -> bool:
    """Return whether a function is Winograd's convolution, perhaps with elementwise functions after it."""
    return PRODUCTS in {str(block.name_hint) for block in blocks_of(Schedule(module, debug_mask="none"))}


def plain_winograd_schedules(module: IRModule, processor: Processor, most: int) -> list[Schedule]:
    """Return plain schedules of Winograd's convolution in order of promise.

    Parameters
    ----------
    module : IRModule
        One TIR function ``main`` that is Winograd's convolution.
    processor : Processor
        What it is for.
    most : int
        How many are wanted at most.
    """
    sizes = _sizes(module, processor)
    made = (_schedule(module, sizes, choice) for choice in _choices(sizes, processor))
    return [schedule for schedule in made if schedule is not None][:most]


def _sizes(module: IRModule, processor: Processor) -> _Sizes:
    blocks = {
        str(block.name_hint): [int(axis.dom.extent) for axis in block.iter_vars]
        for block in blocks_of(Schedule(module, debug_mask="none"))
    }
    batch, rows, columns, _, _, outputs, inputs = blocks[PRODUCTS]
    lanes = lanes_of(inputs, processor), lanes_of(outputs, processor)
    return _Sizes(batch, rows, columns, inputs, outputs, *lanes)


def _choices(sizes: _Sizes, processor: Processor) -> list[_Choice]:
    """Large strips, both ways of going parallel, and two blocks of sums for each.

    All weights are read for each strip, and all inputs of a strip for each block of channels. So a strip's
    inputs may fill the cache, and where weights take more than that, as much as the weights.
    """
    row = sizes.columns * sizes.inputs
    most = max(_STRIP_BYTES / (_POINTS * _BYTES), sizes.inputs * sizes.outputs)
    fitting = [each for each in divisors_of(sizes.rows) if each * row <= most] or [1]
    jobs = _JOBS_PER_CORE * processor.cores if processor.cores > 1 else 1
    enough = [each for each in fitting if sizes.batch * sizes.rows // each >= jobs]
    ways = [(max(enough), True)] if enough else []
    return [
        _Choice(strip, block, alone)
        for strip, alone in [*ways, (max(fitting), False)]
        for block in _blocks(sizes, strip, processor)
    ]


def _blocks(sizes: _Sizes, strip: int, processor: Processor) -> list[Blocking]:
    lanes = sizes.output_lanes
    return blockings(sizes.outputs // lanes, strip, sizes.columns, lanes, processor, 2)


def _schedule(module: IRModule, sizes: _Sizes, choice: _Choice) -> Schedule | None:
    """Return the schedule, or None if the function does not let itself be cut so."""
    schedule = Schedule(module, debug_mask="none")
    try:
        _Plain(schedule, sizes, choice).write()
    except ScheduleError:
        return None
    return schedule


class _Plain:
    """Writes one plain schedule, from the last block to the first, each into the loops of its reader."""

    def __init__(self, schedule: Schedule, sizes: _Sizes, choice: _Choice) -> None:
        self._schedule = schedule
        self._sizes = sizes
        self._choice = choice

    def write(self) -> None:
        strip, channels, row = self._image()
        self._output(row)
        self._products(channels)
        self._input(strip if self._choice.strips else None)

    def _image(self) -> tuple[LoopRV, LoopRV, LoopRV]:
        """Write the image; return the loops over strips, blocks of channels, and rows of tiles."""
        schedule, lanes = self._schedule, self._sizes.output_lanes
        block = self._last_block()
        tile_rows = self._loops(PRODUCTS)[1]
        _, strip = self._sampled(tile_rows, self._choice.strip)
        batch, channel, y, x = schedule.get_loops(block)
        vectors, lane = schedule.split(channel, [None, lanes])
        blocks, vector = schedule.split(vectors, self._sampled(vectors, self._choice.block.channels))
        outer, tile_row, y = schedule.split(y, [None, strip, TILE])
        tile, x = schedule.split(x, [None, TILE])
        schedule.reorder(batch, outer, blocks, tile_row, vector, lane, y, tile, x)
        schedule.vectorize(x)
        if self._choice.strips:
            job = schedule.fuse(batch, outer)
            schedule.parallel(job)
            return job, blocks, vector
        job = schedule.fuse(batch, outer, blocks)
        schedule.parallel(job)
        return job, job, vector

    def _last_block(self) -> SBlockRV:
        """Put the image, and all but the last of the functions of it, into their readers."""
        names = [str(block.name_hint) for block in blocks_of(self._schedule)]
        after = names[names.index(IMAGE) :]
        for name in after[:-1]:
            self._schedule.compute_inline(self._block(name))
        return self._block(after[-1])

    def _output(self, row: LoopRV) -> None:
        """Write the transforms of the sums, for a row of tiles and a vector of channels at a time."""
        self._place(OUTPUT, row)
        y = self._transform(OUTPUT, self._sizes.output_lanes)
        self._rows(OUTPUT_ROWS, y)

    def _input(self, strip: LoopRV | None) -> None:
        """Write the transforms of the input: of a strip, or of all."""
        if strip is not None:
            self._place(INPUT, strip)
        y = self._transform(INPUT, self._sizes.input_lanes, parallel=strip is None)
        self._rows(INPUT_ROWS, y)
        if strip is not None:
            self._place(PIXELS, strip)
        *outer, y, x, channel = self._loops(PIXELS)
        vectors, lane = self._schedule.split(channel, [None, self._sizes.input_lanes])
        self._schedule.reorder(vectors, y, x, lane)
        self._schedule.vectorize(lane)
        if strip is None:
            self._schedule.parallel(self._schedule.fuse(*outer, vectors))

    def _transform(self, name: str, lanes: int, parallel: bool = False) -> LoopRV:
        """Unroll the second half of a transform; return the loop over the rows of its tile."""
        schedule = self._schedule
        batch, tile_row, tile, y, x, channel = self._loops(name)[-6:]
        vectors, lane = schedule.split(channel, [None, lanes])
        schedule.reorder(batch, tile_row, tile, vectors, y, x, lane)
        self._unroll(y, x, vector=lane)
        if parallel:
            schedule.parallel(schedule.fuse(batch, tile_row, tile, vectors))
        return y

    def _rows(self, name: str, y: LoopRV) -> None:
        """Make a row of the first half of a transform where the second half needs it."""
        self._place(name, y)
        *_, x, lane = self._loops(name)
        self._unroll(x, vector=lane)

    def _products(self, channels: LoopRV) -> None:
        """Write the products, their sums in registers."""
        schedule, lanes = self._schedule, self._sizes.output_lanes
        size = self._choice.block
        self._place(PRODUCTS, channels)
        block = self._block(PRODUCTS)
        batch, y, x, row, column, channel, term = schedule.get_loops(block)[-7:]
        y, y_inner = schedule.split(y, self._sampled(y, size.rows))
        x, x_inner = schedule.split(x, self._sampled(x, size.columns))
        vector, lane = schedule.split(channel, [None, lanes])
        term, step = schedule.split(term, [None, self._sizes.terms])
        schedule.reorder(batch, row, column, y, x, term, step, vector, y_inner, x_inner, lane)
        self._unroll(step, vector, y_inner, x_inner, vector=lane)
        stored = schedule.cache_write(block, 0, "global")
        schedule.reverse_compute_at(stored, x, preserve_unit_loops=True)
        *inner, channel = schedule.get_loops(stored)[-6:]
        vector, lane = schedule.split(channel, [None, lanes])
        self._unroll(*inner, vector, vector=lane)
        start = schedule.decompose_reduction(block, term)
        *inner, lane = schedule.get_loops(start)[-4:]
        self._unroll(*inner, vector=lane)

    def _sampled(self, loop: LoopRV, inner: int) -> list:
        extent = int(self._schedule.get(loop).extent)
        return self._schedule.sample_perfect_tile(loop, 2, _MOST_TILES, decision=[extent // inner, inner])

    def _unroll(self, *loops: LoopRV, vector: LoopRV) -> None:
        for loop in loops:
            self._schedule.unroll(loop)
        self._schedule.vectorize(vector)

    def _place(self, name: str, loop: LoopRV) -> None:
        self._schedule.compute_at(self._block(name), loop, preserve_unit_loops=True)

    def _block(self, name: str) -> SBlockRV:
        return self._schedule.get_sblock(name)

    def _loops(self, name: str) -> list[LoopRV]:
        return list(self._schedule.get_loops(self._block(name)))
