"""How a product is cut so that its sums stay in registers.

A convolution or matrix product is the sum over many steps of weight x input. Its innermost part, repeated for
each step, keeps ``channels`` vectors of output channels for each of ``columns`` output pixels in registers. A
step loads ``channels`` vectors of weights and ``columns`` inputs for ``channels * columns`` multiplications,
so large and square blocks are best; but weights and inputs need registers too, and a block that spills is
several times slower than one half as large. An input is one number, with the next beside it, and costs less
than a vector of weights: one vector of channels for 13 columns comes before 16 of them for one column.

Factors must divide the sizes. Where those are prime, blocks are small or vectors are short, and the code is
slow but right. On packed tensors, sizes may be rounded up to what a good block divides, if that costs less.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from tuning.searching.processor import Processor

_FOR_SUMS = 3 / 4
_MOST_ROWS = 4
_LONG_VECTOR = 2
_INPUT_COST = 3 / 4
_LOAD_COST = 1 / 2
_IN_FLIGHT = 8
_MANY_REGISTERS = 32


@dataclass(frozen=True)
class Blocking:
    """The extents of the innermost loops.

    Attributes
    ----------
    lanes : int
        Elements of a vector.
    channels : int
        Vectors (of output channels) for each column.
    rows, columns : int
        Output rows and columns; without vectors along the channels, columns counts vectors.
    """

    lanes: int
    channels: int
    rows: int
    columns: int

    @property
    def sums(self) -> int:
        """Vectors that hold sums."""
        return self.channels * self.rows * self.columns

    @property
    def loads(self) -> float:
        """Cost of what is loaded in one step, that of a vector of weights being 1."""
        return self.channels + _INPUT_COST * self.rows * self.columns


def lanes_of(extent: int, processor: Processor) -> int:
    """Return the vector length for an axis: the processor's if it divides, else the best divisor below.

    A power of two is one vector; another length is put together from several, so it must be twice as long.
    """
    divisors = [each for each in divisors_of(extent) if each <= processor.lanes]
    power = max(each for each in divisors if each & (each - 1) == 0)
    return max(divisors) if max(divisors) >= _LONG_VECTOR * power else power


def blockings(
    vectors: int, rows: int, columns: int, lanes: int, processor: Processor, most: int
) -> list[Blocking]:
    """Return register blocks in order of promise.

    Parameters
    ----------
    vectors : int
        Vectors of output channels (or the channels themselves).
    rows, columns : int
        Output rows and columns (or vectors of columns).
    lanes : int
        Elements of a vector.
    processor : Processor
        What holds the block.
    most : int
        How many are wanted.
    """
    room = int(processor.registers * _FOR_SUMS)
    found = [
        Blocking(lanes, *extents)
        for extents in product(divisors_of(vectors), divisors_of(rows), divisors_of(columns))
        if extents[0] * extents[1] * extents[2] <= room and extents[1] <= _MOST_ROWS
    ]
    return sorted(found, key=_promise)[:most]


def padded_blockings(
    vectors: int, columns: int, lanes: int, processor: Processor, most: int
) -> list[Blocking]:
    """Return register blocks of one row, in order of promise, for sizes that may be rounded up to multiples.

    Parameters
    ----------
    vectors : int
        Vectors of output channels.
    columns : int
        Output columns.
    lanes : int
        Elements of a vector.
    processor : Processor
        What holds the block.
    most : int
        How many are wanted.
    """

    def cost(block: Blocking) -> float:
        sums = rounded_up(vectors, block.channels) * rounded_up(columns, block.columns)
        return sums * _packed_cost(block)

    room = processor.registers
    sizes = product(range(1, min(vectors, room) + 1), range(1, min(columns, room) + 1))
    return sorted(_in_registers(sizes, lanes, room), key=cost)[:most]


def packed_blockings(
    vectors: int, columns: int, lanes: int, processor: Processor, most: int
) -> list[Blocking]:
    """Return register blocks of one row that divide the sizes, in the order of `padded_blockings`."""
    sizes = product(divisors_of(vectors), divisors_of(columns))
    return sorted(_in_registers(sizes, lanes, processor.registers), key=_packed_cost)[:most]


def _in_registers(sizes: Iterable[tuple[int, int]], lanes: int, registers: int) -> list[Blocking]:
    """Return the blocks that leave registers for weights and inputs.

    Where registers are few, compilers read the longer of both from memory one by one.
    """
    few = registers < _MANY_REGISTERS
    return [
        Blocking(lanes, channels, 1, columns)
        for channels, columns in sizes
        if channels * columns + min(channels, columns) + (1 if few else max(channels, columns)) <= registers
    ]


def _packed_cost(block: Blocking) -> float:
    """Return the time of a multiplication: too few sums wait for each other, and loads take time, too."""
    return (max(block.sums, _IN_FLIGHT) + _LOAD_COST * (block.channels + block.columns)) / block.sums


def rounded_up(number: int, multiple: int) -> int:
    """Return the smallest multiple that is not below a number."""
    return -(-number // multiple) * multiple


def divisors_of(number: int) -> list[int]:
    """Return all divisors, the smallest first."""
    return [each for each in range(1, number + 1) if number % each == 0]


def _promise(block: Blocking) -> tuple[float, int]:
    """Loads for each multiplication; of equals the one with fewer rows, whose inputs lie together."""
    return block.loads / block.sums, block.rows
