"""Blocks of sums divide the loops and leave registers for what is loaded."""

import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st

from tuning.searching.blocking import Blocking, blockings, lanes_of
from tuning.searching.processor import Processor, processor_of

WIDE = Processor(lanes=16, registers=32, cores=2)
NARROW = Processor(lanes=4, registers=16, cores=4)


@given(
    extents=st.tuples(*[st.integers(1, 130)] * 3),
    processor=st.sampled_from([WIDE, NARROW]),
    most=st.integers(1, 4),
)
def test_blocks_divide_and_do_not_spill(
    extents: tuple[int, int, int], processor: Processor, most: int
) -> None:
    found = blockings(*extents, lanes=4, processor=processor, most=most)
    assert 1 <= len(found) <= most
    for block in found:
        factors = (block.channels, block.rows, block.columns)
        assert all(extent % factor == 0 for extent, factor in zip(extents, factors, strict=True))
        assert block.sums + 3 <= processor.registers
    assert len(set(found)) == len(found)


@given(extent=st.integers(1, 2000), processor=st.sampled_from([WIDE, NARROW]))
def test_lanes_divide_and_are_no_longer_than_a_vector(extent: int, processor: Processor) -> None:
    lanes = lanes_of(extent, processor)
    assert extent % lanes == 0
    assert lanes <= processor.lanes
    if extent % processor.lanes == 0:
        assert lanes == processor.lanes


def test_large_square_blocks_come_first() -> None:
    assert blockings(12, 1, 28, lanes=16, processor=WIDE, most=1) == [Blocking(16, 6, 1, 4)]
    assert blockings(12, 1, 1, lanes=16, processor=WIDE, most=1) == [Blocking(16, 12, 1, 1)]


@pytest.mark.parametrize("vectors", [14, 16, 20, 24, 64, 100])
def test_columns_are_preferred_where_only_a_long_thin_block_divides(vectors: int) -> None:
    assert blockings(vectors, 13, 13, lanes=16, processor=WIDE, most=1) == [Blocking(16, 1, 1, 13)]


@pytest.mark.parametrize(("extent", "lanes"), [(24, 8), (10, 10), (20, 10), (61, 1), (14, 14), (96, 16)])
def test_a_vector_is_a_power_of_two_unless_that_is_short(extent: int, lanes: int) -> None:
    assert lanes_of(extent, WIDE) == lanes


@pytest.mark.parametrize(
    ("triple", "cpu", "lanes", "registers"),
    [
        ("x86_64-linux-gnu", "skylake-avx512", 16, 32),
        ("x86_64-linux-gnu", "haswell", 8, 16),
        ("x86_64-linux-gnu", "core2", 4, 16),
        ("aarch64-linux-gnu", "cortex-a72", 4, 32),
        ("armv7l-linux-gnueabihf", "cortex-a7", 4, 16),
    ],
)
def test_what_a_processor_has(triple: str, cpu: str, lanes: int, registers: int) -> None:
    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu, "num-cores": 3})
    assert processor_of(target) == Processor(lanes, registers, cores=3)
