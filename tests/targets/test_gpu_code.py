"""The code for each GPU, run on PoCL: the largest work group of the GPU, its input in local memory."""

import dataclasses

import numpy as np
import pytest
import torch
import tvm
from tvm import te

import targets
from targets.gpus import GPUS
from tuning.building.gpu_limits import within_limits

CHANNELS, OUTPUTS, SIZE = 8, 16, 32


def convolution(gpu: targets.Gpu) -> tvm.IRModule:
    """Make a 3x3 convolution: a channel is a work group as large as may be, its input is in local memory."""
    image = te.placeholder((CHANNELS, SIZE + 2, SIZE + 2), name="image")
    weights = te.placeholder((OUTPUTS, CHANNELS, 3, 3), name="weights")
    i, y, x = te.reduce_axis((0, CHANNELS)), te.reduce_axis((0, 3)), te.reduce_axis((0, 3))

    def summand(c, h, w):
        return te.sum(image[i, h + y, w + x] * weights[c, i, y, x], axis=[i, y, x])

    convolved = te.compute((OUTPUTS, SIZE, SIZE), summand, name="convolved")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([image, weights, convolved]))
    block = schedule.get_sblock("convolved")
    channel, row, column, *reduced = schedule.get_loops(block)
    _, pixel = schedule.split(schedule.fuse(row, column), [None, gpu.max_threads])
    schedule.bind(channel, "blockIdx.x")
    schedule.bind(pixel, "threadIdx.x")
    outer, inner = schedule.split(reduced[0], [None, 2])
    schedule.reorder(schedule.get_loops(block)[1], pixel, outer, inner, *reduced[1:])
    local = schedule.cache_read(block, 0, "shared")
    schedule.compute_at(local, outer)
    copied = schedule.fuse(*schedule.get_loops(local)[-3:])
    _, item = schedule.split(copied, [None, gpu.max_threads])
    schedule.bind(item, "threadIdx.x")
    schedule.decompose_reduction(block, outer)
    return schedule.mod


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_a_convolution_at_the_limits_computes_right_on_pocl(gpu: targets.Gpu) -> None:
    device = tvm.runtime.device("opencl", 0)
    if not device.exist:
        pytest.skip("there is no OpenCL device here: install pocl-opencl-icd")
    info = dataclasses.replace(targets.find("host"), gpu=gpu)
    with within_limits(gpu):
        built = tvm.tirx.build(convolution(gpu), target=info.target())
    rng = np.random.default_rng(3)
    image = rng.standard_normal((CHANNELS, SIZE + 2, SIZE + 2)).astype("float32")
    weights = rng.standard_normal((OUTPUTS, CHANNELS, 3, 3)).astype("float32")
    output = tvm.runtime.empty((OUTPUTS, SIZE, SIZE), "float32", device)
    built(tvm.runtime.tensor(image, device), tvm.runtime.tensor(weights, device), output)
    expected = torch.nn.functional.conv2d(torch.from_numpy(image)[None], torch.from_numpy(weights))[0]
    np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
    assert targets.find(gpu.name).verified == targets.Verified.ON_POCL
