"""The plain schedule of a GPU's function: right on every GPU, and fast enough to be used untuned.

A loop that is not bound to work items cannot run on a GPU, so each function needs a schedule. In a
convolution or a product a work item sums up a few output channels of a few pixels below each other, in
registers; work items side by side have pixels side by side, so that they read inputs side by side and the
same weights. In a pool it sums up one output. Padding is read as zero where it is needed, and never stored.
Other functions have the rules of TVM's dlight: a work group for each sum where there are few of them, or else
a work item for each output.
"""

from collections.abc import Iterable
from math import prod

import tvm
from tvm.ir import IRModule
from tvm.s_tir import Schedule, dlight
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tuning.searching.blocking import divisors_of
from tuning.searching.nest import Nest, blocks_of, find_nest
from tuning.searching.space import inlining

_GROUP = 64
_SUMS_AND_READER = 2
_MOST_SUMS = 16
_MOST_CHANNELS = 8
_COOPERATING = 256
_FEW = 32


def plain_gpu_schedule(module: IRModule, target: tvm.target.Target) -> Schedule:
    """Return the plain schedule of a function.

    Parameters
    ----------
    module : IRModule
        One TIR function ``main``, its sizes known.
    target : tvm.target.Target
        A GPU; a work group has no more work items than it takes.
    """
    most = int(target.attrs["max_num_threads"])
    schedule = Schedule(module, debug_mask="none")
    _inline(schedule)
    nest = find_nest(schedule)
    if nest is not None and prod(nest.extents) > _FEW and len(blocks_of(schedule)) <= _SUMS_AND_READER:
        _bind_sums(schedule, nest, min(_GROUP, most))
        return schedule
    few = nest is not None and prod(nest.extents) <= _FEW and most >= _COOPERATING
    rules = [*([dlight.gpu.GeneralReduction()] if few else []), dlight.gpu.Fallback()]
    with target:
        made = (rule.apply(module["main"], target, False) for rule in rules)
        return next(each for each in made if each is not None)


def _inline(schedule: Schedule) -> None:
    """Put padding and elementwise functions into their readers."""
    rule = inlining(padding=True)
    for name in [str(block.name_hint) for block in blocks_of(schedule)]:
        rule.apply(schedule, schedule.get_sblock(name))


def _bind_sums(schedule: Schedule, nest: Nest, group: int) -> None:
    """Give each work item its sums: work groups, work items, the reduction, and the sums inside of it."""
    block = schedule.get_sblock(nest.block)
    reader = _reader(schedule, block)
    loops = list(schedule.get_loops(block))
    parallel, reduction = loops[: len(nest.extents)], loops[len(nest.extents) :]
    shares = nest.channels is not None and nest.columns is not None
    others, pixels, sums = _cut(schedule, parallel, nest) if shares else ([], parallel, [])
    schedule.reorder(*others, *pixels, *reduction, *sums)
    pixel = schedule.fuse(*pixels)
    pixel, item = schedule.split(pixel, [None, min(group, int(schedule.get(pixel).extent))])
    schedule.bind(pixel, "blockIdx.x")
    schedule.bind(item, "threadIdx.x")
    if others:
        schedule.bind(schedule.fuse(*others), "blockIdx.y")
    schedule.reverse_compute_at(reader, item)
    outside = len(schedule.get_loops(block)) - len(reduction) - len(sums)
    for loop in [*sums, *_fixed(schedule, schedule.get_loops(reader)[outside:])]:
        schedule.unroll(loop)
    schedule.decompose_reduction(block, reduction[0])


def _cut(
    schedule: Schedule, parallel: list[LoopRV], nest: Nest
) -> tuple[list[LoopRV], list[LoopRV], list[LoopRV]]:
    """Cut rows and channels; return the loops over blocks of channels, over pixels, and over a block."""
    rows, channels = _sums(nest)
    blocks, sums = schedule.split(parallel[nest.channels], [None, channels])
    others = [loop for axis, loop in enumerate(parallel) if axis not in (nest.rows, nest.columns)]
    others[others.index(parallel[nest.channels])] = blocks
    if nest.rows is None:
        return others, [parallel[nest.columns]], [sums]
    row, below = schedule.split(parallel[nest.rows], [None, rows])
    return others, [row, parallel[nest.columns]], [below, sums]


def _reader(schedule: Schedule, block: SBlockRV) -> SBlockRV:
    """Keep the sums in registers; return the block that takes them from there."""
    readers = schedule.get_consumers(block)
    if len(readers) != 1:
        return schedule.cache_write(block, 0, "local")
    schedule.set_scope(block, 0, "local")
    return readers[0]


def _sums(nest: Nest) -> tuple[int, int]:
    """Return rows and channels of a work item: those for which it loads least in each step."""
    possible = [
        (rows, channels)
        for rows in divisors_of(nest.extent(nest.rows))
        for channels in divisors_of(nest.group)
        if rows * channels <= _MOST_SUMS and channels <= _MOST_CHANNELS
    ]
    return min(possible, key=lambda block: (block[0] + block[1]) / (block[0] * block[1]))


def _fixed(schedule: Schedule, loops: Iterable[LoopRV]) -> list[LoopRV]:
    """Return the loops whose extent is a number; at a border it may depend on the place."""
    return [loop for loop in loops if isinstance(schedule.get(loop).extent, tvm.tirx.IntImm)]
