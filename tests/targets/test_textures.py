"""Why textures on Adreno are refused: TVM's code for them is wrong. When a test fails, they may be offered.

A copy of [0 1 2 3] into a pixel of four channels becomes a loop, whose every step fills all of the pixel.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.tirx.build import split_host_device_mods
from tvm.tirx.compilation_pipeline import finalize_device_passes

from targets import TargetError
from targets.gpus import TEXTURES_REFUSED, refuse_textures
from tuning import TuningError
from tuning.building.opencl_source import COMPILER, check_source, device_source

NAME = "qcom/adreno-opencl-texture"
LOADER = "-l:libOpenCL.so.1"
NO_PLATFORM = 3


def target() -> tvm.target.Target:
    return tvm.target.Target(NAME, host={"kind": "llvm", "mtriple": "x86_64-linux-gnu"})


def copy() -> tvm.IRModule:
    """Copy 4 x 4 pixels into a texture, each by a work item, and out of it."""
    values = te.placeholder((4, 4, 4), name="values")
    result = te.compute((4, 4, 4), lambda i, j, k: values[i, j, k], name="result")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([values, result]))
    block = schedule.get_sblock("result")
    for each in (schedule.cache_read(block, 0, "global.texture"), block):
        row, column, channel = schedule.get_loops(each)
        schedule.bind(row, "blockIdx.x")
        schedule.bind(column, "threadIdx.x")
        schedule.vectorize(channel)
    return schedule.mod


def lowered_for_textures() -> str:
    """Return the source by the pipeline that flattens textures, which `tvm.tirx.build` does not use."""
    module = tvm.tirx.transform.BindTarget(target())(copy())
    _, devices = split_host_device_mods(tvm.tirx.get_tir_pipeline("adreno")(module))
    ((kind, kernels),) = devices.items()
    build = tvm.get_global_func("target.build.opencl")
    return build(finalize_device_passes()(kernels), kind).inspect_source()


def test_the_reason_is_told() -> None:
    with pytest.raises(TargetError, match="results are wrong") as refused:
        refuse_textures(NAME)
    assert TEXTURES_REFUSED in str(refused.value)


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="clang is not here: install clang")
def test_what_tvm_builds_for_textures_is_no_opencl() -> None:
    with pytest.raises(TuningError, match="error: subscripted value is not an array, pointer, or vector"):
        check_source(device_source(tvm.tirx.build(copy(), target=target())), float16=False)
    check_source(lowered_for_textures(), float16=False)


def test_every_pixel_holds_its_last_number_four_times(tmp_path: Path) -> None:
    source, program = tmp_path / "Textur für Pixel.cl", tmp_path / "texture"
    source.write_text(lowered_for_textures())
    command = ["g++", str(Path(__file__).with_name("texture.cpp")), LOADER, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "CL/cl.h" in built.stderr or LOADER in built.stderr:
        pytest.skip(
            "OpenCL's headers or loader are not here: install opencl-c-headers and ocl-icd-libopencl1"
        )
    assert built.stderr == ""
    values = np.arange(64, dtype="float32").reshape(4, 4, 4)
    done = subprocess.run([program, source], input=values.tobytes(), capture_output=True, timeout=120)
    if done.returncode == NO_PLATFORM:
        pytest.skip("there is no OpenCL device with textures here: install pocl-opencl-icd")
    assert (done.returncode, done.stderr) == (0, b"")
    pixels = np.frombuffer(done.stdout, "float32").reshape(4, 4, 4)
    assert np.array_equal(pixels, np.repeat(values[:, :, 3:], 4, axis=2))
