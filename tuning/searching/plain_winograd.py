"""Plain schedules of Winograd's convolution: what an engineer would write, without search.

The tiles, counted one after the other, are cut into strips. The inputs of a strip are transformed once,
channels in vectors, for all blocks of output channels. For such a block, each of the 36 products keeps its
sums in registers, as the direct convolution does, with tiles in place of pixels; the sums of all 36 are a
small buffer, of which the outputs are made a tile at a time. Strips are whole blocks of tiles: the last one
may go on beyond the image, where tiles are computed and not written.

A transform goes over the columns of a tile, then over its rows. A column or row is unrolled: it is a few
additions of vectors, whose coefficients are constants. A whole tile would need more registers than there are.

Strips go parallel, or the blocks of channels, after the transform of all inputs. As with `plain`, sizes are
MetaSchedule's sampling instructions.
"""

from dataclasses import dataclass
from functools import partial
from itertools import islice, product

from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tuning.lowering.winograd import (
    IMAGE,
    INPUT,
    INPUT_ROWS,
    OUTPUT,
    OUTPUT_ROWS,
    PIXELS,
    PRODUCTS,
)
from tuning.searching.blocking import divisors_of
from tuning.searching.nest import blocks_of, scheduled
from tuning.searching.processor import Processor

_STRIP_BYTES = 512 * 1024
_BYTES = 4
_MOST_TILES = 14
_MOST_TERMS = 4
_MOST_VECTORS = 64


@dataclass(frozen=True)
class _Sizes:
    """Of a function: points and outputs of a tile along an axis, images, tiles that are written and that may
    be computed, channels, and elements of vectors."""

    points: int
    side: int
    images: int
    tiles: int
    room: int
    inputs: int
    outputs: int
    input_lanes: int
    lanes: int

    @property
    def mostly_image(self) -> bool:
        """Whether the transformed inputs are more than the weights."""
        return self.tiles >= self.outputs

    def nests(self, strip: int) -> bool:
        """Whether strips are parts of images or whole ones: only then TVM sees how many tiles each has."""
        of_an_image = self.tiles // self.images
        return self.images == 1 or strip >= self.tiles or 0 in (of_an_image % strip, strip % of_an_image)

    @property
    def terms(self) -> int:
        """Input channels in a row, whose transformed inputs lie together."""
        return max(each for each in divisors_of(self.inputs) if each <= _MOST_TERMS)


@dataclass(frozen=True)
class _Block:
    """What is summed in registers: vectors of output channels, for each of some tiles."""

    vectors: int
    tiles: int

    @property
    def sums(self) -> int:
        return self.vectors * self.tiles

    @property
    def registers(self) -> int:
        """For the sums, for the operands of one kind, and for one of the other kind."""
        return self.sums + min(self.vectors, self.tiles) + 1

    def cost(self, tiles: int) -> float:
        """Instructions for a useful multiplication of vectors."""
        computed = _rounded(tiles, self.tiles) * self.tiles
        return (self.sums + self.vectors + self.tiles) / self.sums * computed / tiles


@dataclass(frozen=True)
class _Choice:
    """One plain schedule: its block of sums, tiles of a strip, whether strips go parallel, or channels."""

    block: _Block
    strip: int
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
    sizes = _sizes(module)
    made = (
        scheduled(Schedule(module, debug_mask="none"), partial(_write, sizes=sizes, choice=choice))
        for choice in _choices(sizes, processor)
    )
    return list(islice(filter(None, made), most))


def _sizes(module: IRModule) -> _Sizes:
    blocks = {
        str(block.name_hint): [int(axis.dom.extent) for axis in block.iter_vars]
        for block in blocks_of(Schedule(module, debug_mask="none"))
    }
    room, points, _, outputs, inputs = blocks[PRODUCTS]
    batch, _, rows, columns, lanes = blocks[IMAGE]
    side = blocks[OUTPUT][1]
    tiles = batch * _rounded(rows, side) * _rounded(columns, side)
    return _Sizes(points, side, batch, tiles, room, inputs, outputs, blocks[PIXELS][-1], lanes)


def _choices(sizes: _Sizes, processor: Processor) -> list[_Choice]:
    """Both ways of going parallel, each with the two best blocks of sums.

    Strips need all weights each, blocks of channels all inputs; so what there is more of is cut.
    """
    ways = [True, False] if sizes.mostly_image else [False, True]
    ways = ways if processor.cores > 1 else [True]
    return [
        _Choice(block, _strip(sizes, block, processor.cores if way else 1), way)
        for way in ways
        for block in _blocks(sizes, processor)
    ]


def _blocks(sizes: _Sizes, processor: Processor) -> list[_Block]:
    found = [
        _Block(*each)
        for each in product(divisors_of(sizes.outputs // sizes.lanes), divisors_of(sizes.room))
        if each[1] <= _MOST_TILES
    ]
    fitting = [each for each in found if each.registers <= processor.registers]
    return sorted(fitting, key=lambda each: (each.cost(sizes.tiles), -each.vectors))[:2]


def _strip(sizes: _Sizes, block: _Block, cores: int) -> int:
    """Return how many tiles a strip has: as many for each core, whose inputs fill the cache at most.

    All weights are read for each strip, so where they take more than the cache, a strip's inputs may, too.
    """
    most = max(_STRIP_BYTES // (sizes.points**2 * _BYTES), sizes.outputs * sizes.inputs) // sizes.inputs
    wished = _rounded(sizes.tiles, most * cores) * cores
    strips = (_rounded(sizes.tiles, count * block.tiles) * block.tiles for count in range(wished, 0, -1))
    return next(
        each for each in strips if sizes.nests(each) and _rounded(sizes.tiles, each) * each <= sizes.room
    )


def _rounded(number: int, divisor: int) -> int:
    """Return a quotient, rounded up."""
    return -(-number // divisor)


def _write(schedule: Schedule, sizes: _Sizes, choice: _Choice) -> None:
    _Plain(schedule, sizes, choice).write()


class _Plain:
    """Writes one plain schedule, from the last block to the first, each into the loops of its reader."""

    def __init__(self, schedule: Schedule, sizes: _Sizes, choice: _Choice) -> None:
        self._schedule = schedule
        self._sizes = sizes
        self._choice = choice

    def write(self) -> None:
        strip, channels, vector = self._image()
        self._output(vector)
        self._products(channels)
        self._input(strip)

    def _image(self) -> tuple[LoopRV, LoopRV, LoopRV]:
        """Write the image; return the loops over strips, blocks of channels, and vectors of a tile."""
        schedule = self._schedule
        batch, channel, y, x, lane = schedule.get_loops(self._last_block())
        blocks, vector = schedule.split(channel, self._sampled(channel, self._choice.block.vectors))
        tile_row, y = schedule.split(y, [None, self._sizes.side])
        tile, x = schedule.split(x, [None, self._sizes.side])
        schedule.reorder(batch, tile_row, tile, blocks, vector, y, x, lane)
        strip, tile = schedule.split(schedule.fuse(batch, tile_row, tile), [None, self._choice.strip])
        schedule.reorder(strip, blocks, tile, vector, y, x, lane)
        self._unroll(y, x, vector=lane)
        schedule.parallel(strip if self._choice.strips else blocks)
        return strip, blocks, vector

    def _last_block(self) -> SBlockRV:
        """Put the image, and all but the last of the functions of it, into their readers."""
        names = [str(block.name_hint) for block in blocks_of(self._schedule)]
        after = names[names.index(IMAGE) :]
        for name in after[:-1]:
            self._schedule.compute_inline(self._block(name))
        return self._block(after[-1])

    def _output(self, vector: LoopRV) -> None:
        """Write the transforms of the sums, for a tile and a vector of channels at a time."""
        self._place(OUTPUT, vector)
        *_, y, x, lane = self._loops(OUTPUT)
        self._unroll(x, vector=lane)
        self._place(OUTPUT_ROWS, vector)
        *_, y, x, lane = self._loops(OUTPUT_ROWS)
        self._schedule.reorder(x, y)
        self._unroll(y, vector=lane)

    def _input(self, strip: LoopRV) -> None:
        """Write the transforms of the input of a strip, for a tile and a vector of channels at a time.

        What a block of sums reads lies together; where that is read a few times only, what is written does.
        """
        schedule = self._schedule
        together = 1 if self._sizes.mostly_image else self._choice.block.tiles
        schedule.transform_layout(
            self._block(INPUT), ("write", 0), lambda y, x, t, c: (t // together, y, x, t % together, c)
        )
        self._place(INPUT, strip)
        *_, y, x, tile, channel = self._loops(INPUT)
        vectors, lane = schedule.split(channel, [None, self._sizes.input_lanes])
        schedule.reorder(tile, vectors, y, x, lane)
        self._unroll(x, vector=lane)
        self._place(INPUT_ROWS, vectors)
        *_, y, x, _, lane = self._loops(INPUT_ROWS)
        schedule.reorder(x, y)
        self._unroll(y, vector=lane)
        if not self._choice.strips:
            schedule.parallel(schedule.fuse(tile, vectors))
        *outer, _, lane = self._loops(PIXELS)
        schedule.vectorize(lane)
        schedule.parallel(schedule.fuse(*outer))

    def _products(self, channels: LoopRV) -> None:
        """Write the products, their sums in registers."""
        schedule, lanes = self._schedule, self._sizes.lanes
        size = self._choice.block
        self._place(PRODUCTS, channels)
        block = self._block(PRODUCTS)
        tile, row, column, channel, term = schedule.get_loops(block)[-5:]
        tile, tile_inner = schedule.split(tile, self._sampled(tile, size.tiles))
        vector, lane = schedule.split(channel, [None, lanes])
        term, step = schedule.split(term, [None, self._sizes.terms])
        inner = [tile_inner, vector] if size.vectors <= size.tiles else [vector, tile_inner]
        schedule.reorder(row, column, tile, term, step, *inner, lane)
        self._unroll(step, *inner, vector=lane)
        stored = schedule.cache_write(block, 0, "global")
        schedule.reverse_compute_at(stored, tile, preserve_unit_loops=True)
        *inner, channel = schedule.get_loops(stored)[-4:]
        vector, lane = schedule.split(channel, [None, lanes])
        self._unroll(*inner, vector, vector=lane)
        start = schedule.decompose_reduction(block, term)
        *inner, lane = schedule.get_loops(start)[-3:]
        self._unroll(*inner, vector=lane)

    def _sampled(self, loop: LoopRV, inner: int) -> list:
        extent = int(self._schedule.get(loop).extent)
        return self._schedule.sample_perfect_tile(loop, 2, _MOST_VECTORS, decision=[extent // inner, inner])

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
