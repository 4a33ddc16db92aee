"""The functions that are compared: a record's, the untuned one of its workload, and the latter in parallel.

All three have the signature of the untuned function. A record's function rearranges its weights itself, which
a compiled network has done before: its result is the same.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tvm
from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import SBlockRV

from tuning.measuring.kernel import Signature, arguments_of

_REARRANGES_WEIGHTS = "meta_schedule.layout_rewrite_preproc"
_SPATIAL = 0
_REDUCING = 2
_MAIN = "main"


def tuned(record: ms.database.TuningRecord) -> IRModule:
    """Return the function with a record's schedule.

    Builders take out the blocks that rearrange weights. Here these stay: they lose the mark by which they are
    known.
    """
    schedule = Schedule(record.as_measure_candidate().sch.mod)
    for block in _blocks(schedule):
        if _REARRANGES_WEIGHTS in schedule.get(block).annotations:
            schedule.unannotate(block, _REARRANGES_WEIGHTS)
    return schedule.mod


def untuned(workload: ms.database.Workload) -> IRModule:
    """Return the function as it is: one thread, no vectors."""
    return workload.mod


def in_parallel(workload: ms.database.Workload) -> IRModule:
    """Return the function with the loops over its outputs in parallel, in their order, and nothing else."""
    schedule = Schedule(workload.mod)
    for block in _blocks(schedule):
        loops = schedule.get_loops(block)
        leading = _leading_spatial(schedule.get(block).iter_vars)
        if loops and 0 < leading <= len(loops):
            schedule.parallel(schedule.fuse(*loops[:leading]))
    return schedule.mod


def on_host(module: IRModule, target: tvm.target.Target) -> IRModule:
    """Return a function for the processor that drives a target's GPU; as it is if the target has none."""
    if target.host is None:
        return module
    return IRModule({_MAIN: module[_MAIN].with_attr("target", target.host)})


def signature(workload: ms.database.Workload) -> Signature:
    """Return what the untuned function takes, writes and sums up."""
    function = workload.mod[_MAIN]
    schedule = Schedule(workload.mod)
    blocks = [schedule.get(block) for block in _blocks(schedule)]
    written = [region.source for block in blocks for region in block.writes]
    buffers = list(function.params)
    outputs = [place for place, buffer in enumerate(buffers) if any(buffer.same_as(each) for each in written)]
    return Signature(
        arguments=arguments_of(function),
        outputs=tuple(outputs),
        terms=sum(_terms(block.iter_vars) for block in blocks),
        unit_roundoff=max(_unit_roundoff(str(each.dtype)) for each in [*buffers, *written]),
    )


def _blocks(schedule: Schedule) -> Iterator[SBlockRV]:
    return iter(schedule.get_child_blocks(schedule.get_sblock("root", func_name=_MAIN)))


def _leading_spatial(axes: Any) -> int:
    """Return how many axes come before the first one that is summed over."""
    kinds = [int(axis.iter_type) for axis in axes]
    return next((place for place, kind in enumerate(kinds) if kind != _SPATIAL), len(kinds))


def _terms(axes: Any) -> int:
    """Return how many terms a block sums up for an element; 0 if it sums up nothing."""
    sizes = [int(axis.dom.extent) for axis in axes if int(axis.iter_type) == _REDUCING]
    return math.prod(sizes) if sizes else 0


def _unit_roundoff(dtype: str) -> float:
    return float(np.finfo(dtype).eps) / 2 if dtype.startswith("float") else 0.0
