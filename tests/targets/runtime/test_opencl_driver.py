"""What PoCL does not do by itself: a full or lost device, and two platforms.

A library in the driver's place has a few functions of its own; all others are those of the real one, which it
is linked with.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

INCLUDES = """
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>
"""
FULL = """
cl_mem clCreateBuffer(cl_context c, cl_mem_flags f, size_t s, void* p, cl_int* code) {
  *code = CL_MEM_OBJECT_ALLOCATION_FAILURE;
  return NULL;
}
"""
LOST = """
static int lost;
cl_int clFinish(cl_command_queue q) { return lost ? CL_DEVICE_NOT_AVAILABLE : CL_SUCCESS; }
cl_int clEnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint d, const size_t* o, const size_t* g,
                              const size_t* l, cl_uint n, const cl_event* w, cl_event* e) {
  lost = 1;
  return CL_OUT_OF_RESOURCES;
}
"""
TWICE = """
cl_int clGetPlatformIDs(cl_uint size, cl_platform_id* ids, cl_uint* count) {
  cl_int (*real)(cl_uint, cl_platform_id*, cl_uint*) = dlsym(RTLD_NEXT, "clGetPlatformIDs");
  if (count) *count = 2;
  if (ids) real(1, ids, NULL), ids[1] = ids[0];
  return CL_SUCCESS;
}
"""
NO_TIMES = """
cl_int clGetEventProfilingInfo(cl_event e, cl_profiling_info what, size_t size, void* value, size_t* told) {
  return CL_PROFILING_INFO_NOT_AVAILABLE;
}
"""
OTHER_NAME = """
cl_int clGetDeviceInfo(cl_device_id id, cl_device_info what, size_t size, void* value, size_t* told) {
  cl_int (*real)(cl_device_id, cl_device_info, size_t, void*, size_t*) = dlsym(RTLD_NEXT, "clGetDeviceInfo");
  cl_int code = real(id, what, size, value, told);
  char* name = what == CL_DEVICE_VERSION && value ? strstr(value, "PoCL") : NULL;
  if (name) memcpy(name, "Mali", 4);
  return code;
}
"""
BEGIN = """
import json, sys, numpy as np, tvm
values = np.arange(64, dtype="float32")
with open(sys.argv[1], "rb") as file:
    doubling = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")(file.read())
def attempt(work):
    try:
        return work()
    except (RuntimeError, ValueError) as error:
        return str(error)
"""
TENSOR = (3, 64, 1)
SOURCE = "__kernel void doubling(__global float* out) { out[get_global_id(0)] *= 2; }"

Run = Callable[..., list]


@pytest.fixture
def run(device, write_module, tmp_path: Path) -> Run:
    """Run code in a process with a driver that differs in some functions; return the list that it prints."""

    def ran(functions: str, code: str, **environment: str) -> list:
        source, driver, kernels = (tmp_path / name for name in ("driver.c", "libOpenCL.so", "kernels"))
        kernels.write_bytes(write_module(SOURCE, "doubling", [TENSOR], ["blockIdx.x", "threadIdx.x"]))
        source.write_text(INCLUDES + functions)
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-Wl,--no-as-needed",
            "-o",
            driver,
            source,
            "-l:libOpenCL.so.1",
            "-ldl",
        ]
        subprocess.run(command, check=True)
        given = {"TVM_USE_RUNTIME_LIB": "1", "DEEPREBIRTH_OPENCL_LIBRARY": str(driver)} | environment
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + code, str(kernels)],
            env=os.environ | given,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ran


def test_a_full_device_is_told(run: Run):
    (told,) = run(FULL, "print(json.dumps([attempt(lambda: tvm.runtime.tensor(values, tvm.opencl(0)))]))")
    assert "a tensor of 256 bytes on " in told
    assert (
        "0 in use: CL_MEM_OBJECT_ALLOCATION_FAILURE (-4): the device's memory is full: free other tensors"
        in told
    )


def test_a_lost_device_is_told(run: Run):
    code = """
tensor = tvm.runtime.tensor(values, tvm.opencl(0))
print(json.dumps([attempt(lambda: doubling["doubling"](tensor, 1, 64)), attempt(tvm.opencl(0).sync)]))
"""
    launching, waiting = run(LOST, code)
    assert (
        "kernel doubling: launching it: CL_OUT_OF_RESOURCES (-5): the device is out of registers" in launching
    )
    assert "waiting for the device: CL_DEVICE_NOT_AVAILABLE (-2): the device is gone or was reset" in waiting


def test_there_are_two_platforms(run: Run):
    """Kernels run on each of the devices, tensors go from one to the other, and are not mixed."""
    code = """
first, second = (tvm.runtime.tensor(values, tvm.opencl(each)) for each in range(2))
doubling["doubling"](first, 1, 64)
moved = tvm.runtime.empty(values.shape, "float32", tvm.opencl(1))
first.copyto(moved)
doubling["doubling"](moved, 1, 64)
devices = json.loads(tvm.get_global_func("deeprebirth.opencl.devices")())
places, chosen = [each["place"] for each in devices], tvm.get_global_func("deeprebirth.opencl.chosen")()
print(json.dumps([moved.numpy().tolist(), second.numpy().tolist(), places, chosen]))
"""
    for wanted, chosen in (("", 0), ("1", 1)):
        moved, second, places, found = run(TWICE, code, DEEPREBIRTH_OPENCL_DEVICE=wanted)
        assert moved == [4 * each for each in range(64)]
        assert second == [*range(64)]
        assert (places, found) == ([0, 1], chosen)


def test_a_driver_without_times_of_markers_is_timed_by_the_host(run: Run):
    code = """
tensor = tvm.runtime.tensor(values, tvm.opencl(0))
time = doubling.time_evaluator("doubling", tvm.opencl(0), number=3)(tensor, 1, 64).mean
print(json.dumps([time]))
"""
    (seconds,) = run(NO_TIMES, code)
    assert 0 < seconds < 60


def test_programs_are_kept_in_the_users_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DEEPREBIRTH_OPENCL_CACHE")
    code = """
doubling["doubling"](tvm.runtime.tensor(values, tvm.opencl(0)), 1, 64)
counts = json.loads(tvm.get_global_func("deeprebirth.opencl.counts")())
print(json.dumps([counts["programs_built"], counts["programs_cached"]]))
"""
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
    assert [run(OTHER_NAME, code, **home), run(OTHER_NAME, code, **home)] == [[1, 0], [0, 1]]
    assert len(list((tmp_path / "home/.cache/deeprebirth/opencl").iterdir())) == 1
    run(OTHER_NAME, code, **home | {"XDG_CACHE_HOME": str(tmp_path / "xdg")})
    assert len(list((tmp_path / "xdg/deeprebirth/opencl").iterdir())) == 1
