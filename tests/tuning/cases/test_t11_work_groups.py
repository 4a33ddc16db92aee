"""T11: no candidate for a GPU asks for more than the device has, whatever another driver would allow."""

import math
import re

import pytest
import tvm
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

from tuning.prepare import prepare
from tuning.searching.space import tune_context

CANDIDATES = 8
BINDING = re.compile(r'T\.thread_binding\((?:T\.int64\()?(\d+)\)?, thread="threadIdx\.([xyz])"\)')


def mali(threads: int, shared_bytes: int) -> tvm.target.Target:
    return tvm.target.Target(
        {
            "kind": "opencl",
            "device": "mali",
            "max_num_threads": threads,
            "max_threads_per_block": threads,
            "max_shared_memory_per_block": shared_bytes,
        },
        host={"kind": "llvm", "mtriple": "aarch64-linux-gnu"},
    )


def threads_of(module: IRModule) -> int:
    """The largest work group of a candidate's kernels."""
    sizes: dict[str, int] = {}
    for size, axis in BINDING.findall(module.script()):
        sizes[axis] = max(int(size), sizes.get(axis, 1))
    return math.prod(sizes.values())


@pytest.mark.parametrize("threads", [32, 256])
def test_candidates_stay_within_the_devices_work_group(threads: int, net) -> None:
    target = mali(threads, 16384)
    tasks = ms.relax_integration.extract_tasks(prepare(net.module, target), target)
    convolution = next(task.dispatched[0] for task in tasks if "conv2d" in task.task_name)
    strategy = ms.search_strategy.EvolutionarySearch(population_size=16, genetic_num_iters=1)
    context = tune_context(convolution, target, True, strategy)
    database, model = ms.database.MemoryDatabase(), ms.cost_model.RandomModel()
    context.pre_tuning(CANDIDATES, CANDIDATES, context.generate_design_space(), database, model)
    candidates = context.generate_measure_candidates()
    assert candidates
    found = [threads_of(candidate.sch.mod) for candidate in candidates]
    assert 1 < max(found) <= threads
