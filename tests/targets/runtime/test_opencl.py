"""The OpenCL runtime in this process, on PoCL: kernels, memory, streams, time."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

OF_DEVICE = {"name", "platform", "version", "driver", "type", "place"}
LIMITS = {"compute_units", "work_group", "local_memory", "global_memory", "largest_buffer"}


def counts() -> dict[str, int]:
    return json.loads(tvm.get_global_func("deeprebirth.opencl.counts")())


FLOAT, INT, LONG, TENSOR = (2, 32, 1), (0, 32, 1), (0, 64, 1), (3, 64, 1)
"""Code, bits and lanes of arguments."""

SCALED = """
__kernel void scaled(__global const float* in, __global float* out, float by, int first, long second) {
  int i = get_global_id(0);
  out[i] = in[i] * by + first * second;
}
"""
LOOPING = """
__kernel void looping(__global float* out, int rounds) {
  float value = out[get_global_id(0)];
  for (int i = 0; i < rounds; ++i) value = value * 0.999f + 1.0f;
  out[get_global_id(0)] = value;
}
"""


def copy(source, start: int, target, into: int, size: int) -> None:
    """Copy elements between places in two tensors."""
    item = np.dtype(str(source.dtype)).itemsize
    part = target._create_view((size,), target.dtype, into * item)
    source._create_view((size,), source.dtype, start * item).copyto(part)


def uploaded(values: np.ndarray, device: tvm.runtime.Device) -> tvm.runtime.Tensor:
    return tvm.runtime.tensor(values, device)


def test_the_device_says_what_it_is(device):
    (told,) = json.loads(tvm.get_global_func("deeprebirth.opencl.devices")())
    assert {*OF_DEVICE, *LIMITS, "float16"} == told.keys()
    assert all(told[limit] > 0 for limit in LIMITS)
    assert device.exist
    assert not tvm.opencl(7).exist
    assert (device.device_name, device.compute_version) == (told["name"], told["version"])
    assert device.max_threads_per_block == told["work_group"]
    assert device.max_shared_memory_per_block == told["local_memory"]
    assert device.total_global_memory == told["global_memory"]
    assert device.multi_processor_count == told["compute_units"]
    assert len(device.max_thread_dimensions) == 3
    assert "PoCL" in device.compute_version


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "uint8", "int64"])
def test_kernels_compute_as_numpy_does(device, affine, dtype: str):
    values = np.random.default_rng(0).integers(0, 20, 1000).astype(dtype)
    library = affine(dtype, 1000)
    result = tvm.runtime.empty((1000,), dtype, device)
    library["main"](uploaded(values, device), result)
    np.testing.assert_array_equal(result.numpy(), values * 3 + 2)


def test_numbers_are_arguments(device, make_module):
    """A kernel that takes a number of each kind beside its tensors."""
    scaled = make_module(SCALED, "scaled", [TENSOR, TENSOR, FLOAT, INT, LONG])
    values = np.linspace(-1, 1, 256, dtype="float32")
    result = tvm.runtime.empty((256,), "float32", device)
    scaled["scaled"](uploaded(values, device), result, 0.5, -7, 3, 4, 64)
    np.testing.assert_allclose(result.numpy(), values * 0.5 + -7 * 3, rtol=1e-6)


def test_a_saved_library_computes_the_same(device, affine, tmp_path: Path):
    path = tmp_path / "Bücher ä.so"
    affine("float32", 64).export_library(str(path))
    loaded = tvm.runtime.load_module(str(path))
    (kernels,) = loaded.imports
    assert kernels.kind == "opencl"
    assert "__kernel" in kernels.inspect_source("cl")
    values, result = np.arange(64, dtype="float32"), tvm.runtime.empty((64,), "float32", device)
    loaded["main"](uploaded(values, device), result)
    np.testing.assert_array_equal(result.numpy(), values * 3 + 2)


@given(cut=st.integers(0, 150))
@settings(max_examples=30, deadline=None)
def test_kernels_that_are_cut_off_are_refused(needs_opencl, write_module, cut: int):
    whole = write_module(SCALED, "scaled", [TENSOR, TENSOR, FLOAT, INT, LONG], ["blockIdx.x"])
    load = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")
    with pytest.raises(ValueError, match="is cut off"):
        load(whole[:cut])


@given(
    size=st.integers(1, 64),
    start=st.integers(0, 40),
    into=st.integers(0, 40),
    dtype=st.sampled_from(["int8", "float32"]),
)
@settings(max_examples=40, deadline=None)
def test_copies_with_offsets(device, size: int, start: int, into: int, dtype: str):
    source = np.arange(start + size, dtype=dtype)
    target = np.full(into + size, 9, dtype=dtype)
    on_device, copied = uploaded(source, device), uploaded(target, device)
    copy(on_device, start, copied, into, size)
    wanted = target.copy()
    wanted[into:] = source[start:]
    np.testing.assert_array_equal(copied.numpy(), wanted)
    np.testing.assert_array_equal(on_device.numpy(), source)


def test_streams_wait_for_each_other(device, affine):
    library = affine("float32", 1000)
    values = np.arange(1000, dtype="float32")
    first, second = uploaded(values, device), tvm.runtime.empty((1000,), "float32", device)
    third = tvm.runtime.empty((1000,), "float32", device)
    streams = [device.create_raw_stream() for _ in range(2)]
    try:
        device.set_raw_stream(streams[0])
        library["main"](first, second)
        stream_wait = tvm.get_global_func("runtime.Device_StreamSyncFromTo")
        stream_wait(device, *streams)
        device.set_raw_stream(streams[1])
        library["main"](second, third)
        device.sync(streams[1])
    finally:
        device.set_raw_stream(0)
        for stream in streams:
            device.free_raw_stream(stream)
    np.testing.assert_array_equal(third.numpy(), (values * 3 + 2) * 3 + 2)


def test_threads_compute_at_the_same_time(device, affine):
    library = affine("float32", 1000)

    def run(seed: int) -> None:
        values = np.random.default_rng(seed).integers(0, 1000, 1000).astype("float32")
        for _ in range(40):
            result = tvm.runtime.empty((1000,), "float32", device)
            library["main"](uploaded(values, device), result)
            np.testing.assert_array_equal(result.numpy(), values * 3 + 2)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(8)))


def test_the_time_is_the_devices(device, make_module):
    """Sixteen times the work takes longer."""
    tensor = uploaded(np.zeros(64, "float32"), device)
    looping = make_module(LOOPING, "looping", [TENSOR, INT])
    short, long = (
        looping.time_evaluator("looping", device, number=2, repeat=5)(tensor, rounds, 1, 64).min
        for rounds in (100_000, 1_600_000)
    )
    assert 0 < short < long


def test_all_buffers_are_given_back(device, affine):
    before = counts()
    values = np.arange(1000, dtype="float32")
    tensors = [uploaded(values, device) for _ in range(10)]
    assert counts()["buffers"] == before["buffers"] + 10
    assert counts()["bytes"] == before["bytes"] + 10 * values.nbytes
    affine("float32", 1000)["main"](*tensors[:2])
    assert counts()["launches"] == before["launches"] + 1
    del tensors
    after = counts()
    assert (after["buffers"], after["bytes"]) == (before["buffers"], before["bytes"])
