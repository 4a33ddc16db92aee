"""The table of GPUs: their names with and without a host, their limits in TVM's target, textures refused."""

import pickle
import re

import pytest
import tvm
from tvm import te

import targets
from targets import Verified
from targets.gpus import GENERIC, GPUS

LEAST_OF_OPENCL_1_2 = {"local_bytes": 16384 // 2, "max_argument_bytes": 1024}
"""What the specification of OpenCL 1.2, section 4.2, asks of the embedded profile or of all."""


def refusal(name: str) -> str:
    with pytest.raises(targets.TargetError) as refused:
        targets.find(name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_the_target_has_the_limits_of_the_gpu_and_the_processor_as_host(gpu: targets.Gpu) -> None:
    info = targets.find(gpu.name)
    target = info.target()
    assert info.gpu is gpu
    assert info.device_type == "opencl"
    exported = target.export()
    assert exported["kind"] == "opencl"
    assert exported["max_num_threads"] == exported["max_threads_per_block"] == gpu.max_threads
    assert exported["max_shared_memory_per_block"] == gpu.local_bytes
    assert exported["max_function_args"] == gpu.max_arguments
    assert (gpu.kind in target.keys) is bool(gpu.kind)
    assert exported["host"]["kind"] == "llvm"
    assert exported["host"]["num-cores"] == info.threads


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_limits_are_those_of_a_real_device(gpu: targets.Gpu) -> None:
    assert 128 <= gpu.max_threads <= 1024
    assert gpu.max_threads % gpu.warp == 0
    assert LEAST_OF_OPENCL_1_2["local_bytes"] <= gpu.local_bytes <= 32768
    assert gpu.max_argument_bytes == LEAST_OF_OPENCL_1_2["max_argument_bytes"]


def test_limits_that_drivers_report() -> None:
    """The numbers of published reports, each with what an own guess must not exceed."""
    reported = {name: gpu.max_threads for name, gpu in GPUS.items() if gpu.reported}
    assert reported == {"mali-g52-3ee": 384, "mali-g71": 256, "mali-g610": 1024, "adreno-640": 1024}


def test_a_gpu_alone_has_any_64_bit_arm_processor_for_its_host() -> None:
    info, arm = targets.find("mali-g76"), targets.find("aarch64")
    assert (info.name, info.triple, info.compiler) == ("mali-g76", arm.triple, arm.compiler)
    assert str(targets.find("mali-g76+aarch64").target()) == str(info.target())


def test_any_opencl_device_is_one_of_this_machine() -> None:
    assert str(targets.find("opencl").target()) == str(targets.find("opencl+host").target())
    assert targets.find("opencl").triple == targets.find("host").triple
    assert all(GENERIC.max_threads <= gpu.max_threads for gpu in GPUS.values())
    assert all(GENERIC.local_bytes <= gpu.local_bytes for gpu in GPUS.values())


@pytest.mark.parametrize("host", ["host", "rk3588", "android-arm64", "cortex-a7"])
def test_a_host_drives_a_gpu(host: str) -> None:
    info, processor = targets.find(f"mali-g610+{host}"), targets.find(host)
    assert info.name == f"mali-g610+{host}"
    assert info.gpu == targets.find("mali-g610").gpu
    assert (info.cpu, info.threads, info.toolchain) == (processor.cpu, processor.threads, processor.toolchain)
    assert str(info.target().host) == str(processor.target())
    assert info.verified == Verified.ON_POCL
    assert info.measured_on() == f"Mali-G610, driven by {processor.measured_on()}"


def test_names_survive_being_looked_up_and_pickled() -> None:
    for name in ("mali-g76", "mali-g76+host", "opencl", "adreno-640+android-arm64"):
        info = targets.find(name)
        assert targets.find(info.name) == pickle.loads(pickle.dumps(info)) == info


def test_names_that_are_none_are_refused_in_one_line() -> None:
    assert "did you mean mali-g76?" in refusal("mali-76")
    assert "did you mean host?" in refusal("mali-g76+hots")
    assert refusal("rk3588+host").startswith("rk3588 is no GPU: before the + goes one of mali-t860")
    assert "mali-g52 is a GPU: after the + goes the processor" in refusal("mali-g76+mali-g52")
    for name in ("+", "mali-g76+", "+host"):
        assert "unknown target" in refusal(name)


@pytest.mark.parametrize(
    "name", ["qcom/adreno-opencl-texture", "qcom/adreno-opencl-clml", "adreno-640-texture+host"]
)
def test_textures_are_refused_with_the_reason(name: str) -> None:
    assert "lays data out wrongly for them, so that results are wrong; use buffers" in refusal(name)


def test_every_work_item_reaches_the_barriers_of_a_reduction() -> None:
    """With the width of a warp in the target, TVM puts barriers where some work items do not come by."""
    values, k = te.placeholder((4, 64), name="values"), te.reduce_axis((0, 64))
    sums = te.compute((4,), lambda i: te.sum(values[i, k], axis=k), name="sums")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([values, sums]))
    for loop, axis in zip(schedule.get_loops(schedule.get_sblock("sums")), ("block", "thread"), strict=True):
        schedule.bind(loop, f"{axis}Idx.x")
    target = targets.find("mali-g76").target()
    source = tvm.tirx.build(schedule.mod, target=target).imports[0].inspect_source()
    assert source.count("barrier(") > 2
    assert not [
        body for body in re.findall(r"if \(.*?\) \{\n(.*?)\n  \}", source, re.S) if "barrier(" in body
    ]
    wide = tvm.target.Target({**dict(target.export()), "thread_warp_size": 8})
    source = tvm.tirx.build(schedule.mod, target=wide).imports[0].inspect_source()
    assert [body for body in re.findall(r"if \(.*?\) \{\n(.*?)\n  \}", source, re.S) if "barrier(" in body]


def test_a_board_names_its_gpu_and_the_target_that_runs_on_it() -> None:
    named = {row.name: targets.with_its_gpu(row) for row in targets.all_targets()}
    found = {name: gpu for name, gpu in named.items() if gpu is not None}
    assert found == {"rk3399": "mali-t860+rk3399", "rk3588": "mali-g610+rk3588"}
    for name, gpu in found.items():
        assert targets.find(gpu).gpu.description == targets.find(name).graphics.split()[0]
        assert targets.with_its_gpu(targets.find(gpu)) is None
    assert "no OpenCL" in targets.find("raspberry-pi-4").graphics
