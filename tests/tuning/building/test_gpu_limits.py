"""Kernels that want more than their GPU has are refused when they are built, by name and number."""

from dataclasses import replace

import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, te

import targets
from tuning import TuningError
from tuning.building.gpu_limits import within_limits

GPU = targets.find("mali-g52").gpu
TARGET = targets.find("mali-g52+host").target()


def sums(threads: int, local: int, vthreads: int = 1) -> tvm.IRModule:
    """Make sums of rows: a work group reads `local` floats into local memory, `threads` of them at a time."""
    values, k = te.placeholder((4 * vthreads, local), name="values"), te.reduce_axis((0, local))
    result = te.compute((4 * vthreads,), lambda i: te.sum(values[i, k], axis=k), name="sums")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([values, result]))
    block = schedule.get_sblock("sums")
    rows, _ = schedule.get_loops(block)
    group, virtual, item = schedule.split(rows, [None, vthreads, 1])
    for loop, axis in ((group, "blockIdx.x"), (virtual, "vthread.x"), (item, "threadIdx.x")):
        schedule.bind(loop, axis)
    copy = schedule.cache_read(block, 0, "shared")
    schedule.compute_at(copy, item)
    inner = schedule.fuse(*schedule.get_loops(copy)[3:])
    _, thread = schedule.split(inner, [None, threads])
    schedule.bind(thread, "threadIdx.y")
    return schedule.mod


def many(arguments: int) -> tvm.IRModule:
    """Make the sum of so many vectors but one, which is the result."""
    vectors = [te.placeholder((64,), name=f"v{number}") for number in range(arguments - 1)]
    total = te.compute(
        (64,), lambda i: sum((vector[i] for vector in vectors[1:]), vectors[0][i]), name="total"
    )
    schedule = tvm.s_tir.Schedule(te.create_prim_func([*vectors, total]))
    (loop,) = schedule.get_loops(schedule.get_sblock("total"))
    schedule.bind(loop, "threadIdx.x")
    return schedule.mod


def build(module: tvm.IRModule, gpu: targets.Gpu | None = GPU) -> tvm.runtime.Module:
    with within_limits(gpu):
        return tvm.tirx.build(module, target=TARGET)


def build_network(module: tvm.IRModule, gpu: targets.Gpu) -> None:
    with TARGET, tvm.transform.PassContext(opt_level=3), within_limits(gpu):
        relax.build(module, TARGET)


def refusal(module: tvm.IRModule, gpu: targets.Gpu = GPU) -> str:
    with pytest.raises(TuningError) as refused:
        build(module, gpu)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_kernel_at_the_limits_is_built() -> None:
    assert build(sums(GPU.max_threads, GPU.local_bytes // 4)).imports[0].kind == "opencl"
    assert build(many(GPU.max_arguments)).imports[0].kind == "opencl"


def test_what_is_over_a_limit_is_named_with_both_numbers() -> None:
    assert refusal(sums(512, 1024)) == "kernel main_kernel wants 512 work items, the Mali-G52 takes 256"
    told = refusal(sums(64, 8193))
    assert told == "kernel main_kernel wants 32772 bytes of local memory, the Mali-G52 takes 32768"
    told = refusal(many(GPU.max_arguments + 1))
    assert told == "kernel main_kernel wants 1032 bytes of arguments, the Mali-G52 takes 1024"
    generic = targets.find("opencl").gpu
    assert refusal(sums(512, 1024), generic).endswith("work items, any OpenCL device takes 256")


def test_the_larger_gpu_takes_what_the_smaller_one_refuses() -> None:
    build(sums(512, 1024), targets.find("mali-g610").gpu)


def test_a_virtual_thread_is_no_work_item() -> None:
    build(sums(128, 256, vthreads=4), replace(GPU, max_threads=128))


def test_a_target_without_a_gpu_is_not_checked() -> None:
    build(sums(1024, 1 << 14), None)


def test_a_work_group_of_unknown_size_is_refused() -> None:
    number = tvm.tirx.Var("number", "int32")
    values = te.placeholder((number,), name="values")
    doubled = te.compute((number,), lambda i: values[i] * 2, name="doubled")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([values, doubled]))
    schedule.bind(*schedule.get_loops(schedule.get_sblock("doubled")), "threadIdx.x")
    assert "wants work items by a number that is known only when it runs" in refusal(schedule.mod)


def test_settings_of_the_context_outside_stay_in_force() -> None:
    config = {"tirx.UnrollLoop": {"auto_max_step": 4}}
    with tvm.transform.PassContext(opt_level=1, config=config, disabled_pass=["FuseOps"]), within_limits(GPU):
        inside = tvm.transform.PassContext.current()
        assert (inside.opt_level, list(inside.disabled_pass)) == (1, ["FuseOps"])
        assert int(inside.config["tirx.UnrollLoop"].auto_max_step) == 4
    assert len(tvm.transform.PassContext.current().instruments) == 0


def test_an_error_inside_is_told_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), within_limits(GPU):
        _ = 1 / 0


def test_every_kernel_of_a_network_is_checked() -> None:
    """relax.build lowers all functions at once."""
    image = relax.Var("image", relax.TensorType((1, 4, 8, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [image]):
        with builder.dataflow():
            pooled = builder.emit(relax.op.nn.max_pool2d(image, (2, 2)))
            output = builder.emit_output(relax.op.nn.relu(relax.op.sin(pooled)))
        builder.emit_func_output(output)
    module = relax.transform.LegalizeOps()(builder.get())
    with TARGET:
        module = tvm.s_tir.dlight.ApplyDefaultSchedule(tvm.s_tir.dlight.gpu.Fallback())(module)
    build_network(module, GPU)
    with pytest.raises(TuningError, match=r"_kernel wants \d+ work items, the Mali-G52 takes 32"):
        build_network(module, replace(GPU, max_threads=32))


@settings(max_examples=25, deadline=None)
@given(threads=st.sampled_from([1, 2, 31, 64, 255, 256, 257, 384, 1000]), local=st.integers(2, 9000))
def test_a_kernel_is_built_if_and_only_if_it_is_within_the_limits(threads: int, local: int) -> None:
    columns = max(local, threads) // threads * threads
    sound = threads <= GPU.max_threads and columns * 4 <= GPU.local_bytes
    if sound:
        build(sums(threads, columns))
    else:
        refusal(sums(threads, columns))
