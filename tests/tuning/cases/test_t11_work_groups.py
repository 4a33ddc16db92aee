"""T11: no candidate for a GPU asks for more than the device has, whatever the driver here would allow."""

from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.ir import IRModule
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning import TuningError
from tuning.building.gpu_limits import within_limits
from tuning.prepare import prepare
from tuning.searching.space import tune_context

CANDIDATES = 8
PHONES = ("mali-g52+host", "adreno-640+host")


def is_within(module: IRModule, info: targets.TargetInfo, gpu: targets.Gpu) -> bool:
    """Build a candidate and tell whether its kernels are within the limits of a GPU."""
    try:
        with within_limits(gpu):
            tvm.tirx.build(module, target=info.target())
    except TuningError:
        return False
    return True


def candidates(function: IRModule, target: tvm.target.Target) -> list[IRModule]:
    strategy = ms.search_strategy.EvolutionarySearch(population_size=16, genetic_num_iters=1)
    context = tune_context(function, target, True, strategy)
    database, model = ms.database.MemoryDatabase(), ms.cost_model.RandomModel()
    context.pre_tuning(CANDIDATES, CANDIDATES, context.generate_design_space(), database, model)
    return [candidate.sch.mod for candidate in context.generate_measure_candidates()]


def copied(threads: int, floats: int) -> IRModule:
    """Make a copy of a vector by way of local memory: so many work items, so many floats for a work group."""
    values = te.placeholder((4, floats), name="values")
    result = te.compute((4, floats), lambda i, j: values[i, j], name="result")
    schedule = Schedule(te.create_prim_func([values, result]))
    block = schedule.get_sblock("result")
    group, item = schedule.get_loops(block)
    schedule.bind(group, "blockIdx.x")
    local = schedule.cache_read(block, 0, "shared")
    schedule.compute_at(local, group)
    for loop in (item, schedule.get_loops(local)[-1]):
        _, thread = schedule.split(loop, [None, threads])
        schedule.bind(thread, "threadIdx.x")
    return schedule.mod


@pytest.mark.parametrize("name", PHONES)
def test_candidates_stay_within_the_phone(name: str, net) -> None:
    info = targets.find(name)
    target = info.target()
    tasks = ms.relax_integration.extract_tasks(prepare(net.module, target), target)
    convolution = next(task.dispatched[0] for task in tasks if "conv2d" in task.task_name)
    found = candidates(convolution, target)
    assert found
    assert all(is_within(module, info, info.gpu) for module in found)
    assert not all(is_within(module, info, replace(info.gpu, max_threads=1)) for module in found)


@pytest.mark.parametrize("name", PHONES)
def test_metaschedule_reads_the_limits_of_our_targets(name: str) -> None:
    info = targets.find(name)
    threads, floats = info.gpu.max_threads, info.gpu.local_bytes // 4
    verify = ms.postproc.VerifyGPUCode()

    def passes(module: IRModule) -> bool:
        context = ms.TuneContext(module, target=info.target(), space_generator="post-order-apply")
        verify._initialize_with_tune_context(context)
        return verify.apply(Schedule(module))

    assert passes(copied(threads, threads))
    assert not passes(copied(threads * 2, threads * 2))
    assert passes(copied(64, floats))
    assert not passes(copied(64, floats + 64))


@pytest.mark.parametrize("name", [*PHONES, "opencl"])
def test_the_driver_here_takes_far_more_than_the_phone(name: str) -> None:
    """What the phone would refuse runs on PoCL, so that nothing but the check on the code can tell."""
    device = tvm.runtime.device("opencl", 0)
    if not device.exist:
        pytest.skip("there is no OpenCL device here: install pocl-opencl-icd")
    info = targets.find(name)
    if device.max_threads_per_block <= info.gpu.max_threads:
        pytest.skip(f"the driver here takes {device.max_threads_per_block} work items, no more than {name}")
    module = copied(2 * info.gpu.max_threads, 2 * info.gpu.max_threads)
    numbers = np.random.default_rng(11).standard_normal((4, 2 * info.gpu.max_threads)).astype("float32")
    values = tvm.runtime.tensor(numbers, device)
    result = tvm.runtime.empty(values.shape, "float32", device)
    tvm.tirx.build(module, target=info.target())(values, result)
    assert np.array_equal(result.numpy(), numbers)
    assert not is_within(module, info, info.gpu)
