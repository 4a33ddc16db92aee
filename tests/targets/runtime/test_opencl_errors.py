"""What the OpenCL runtime says when something is wrong: the kernel, the limit, and what to do."""

import os

import numpy as np
import pytest
import tvm

TENSOR, FLOAT = (3, 64, 1), (2, 32, 1)
HALVING = "__kernel void halving(__global float* out) { out[get_global_id(0)] /= 2; }"


@pytest.fixture
def tensor(device) -> tvm.runtime.Tensor:
    return tvm.runtime.tensor(np.ones(64, "float32"), device)


def test_a_source_that_does_not_compile_is_told_with_the_end_of_its_log(tensor, make_module):
    broken = make_module(
        "__kernel void broken(__global float* out) { out[0] = missing; }", "broken", [TENSOR]
    )
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"kernel broken: .* cannot build it: CL_BUILD_PROGRAM_"
        ) as told:
            broken["broken"](tensor, 1, 1)
        assert "undeclared identifier 'missing'" in str(told.value)


def test_a_kernel_that_is_not_in_the_source_is_told(tensor, make_module):
    module = make_module(HALVING, "doubling", [TENSOR])
    with pytest.raises(
        RuntimeError, match=r"kernel doubling: .*CL_INVALID_KERNEL_NAME \(-46\): the source has no"
    ):
        module["doubling"](tensor, 1, 1)


def test_a_work_group_that_is_too_large_is_told_with_both_numbers(device, tensor, make_module):
    most = device.max_threads_per_block
    module = make_module(HALVING, "halving", [TENSOR], ("blockIdx.x", "threadIdx.x", "threadIdx.y"))
    wanted = (
        rf"kernel halving: a work group of {most}x2x1 = {2 * most} work items, and .* allows {most} for it$"
    )
    with pytest.raises(RuntimeError, match=wanted):
        module["halving"](tensor, 1, most, 2)
    np.testing.assert_array_equal(tensor.numpy(), np.ones(64))


def test_local_memory_that_is_too_large_is_told_with_both_numbers(device, tensor, make_module):
    most = device.max_shared_memory_per_block
    source = f"""
    __kernel void hoarding(__global float* out) {{
      __local float held[{most // 2}];
      held[get_local_id(0)] = out[get_global_id(0)];
      barrier(CLK_LOCAL_MEM_FENCE);
      out[get_global_id(0)] = held[get_local_size(0) - 1 - get_local_id(0)];
    }}"""
    module = make_module(source, "hoarding", [TENSOR])
    with pytest.raises(
        RuntimeError, match=rf"hoarding: it needs {2 * most} bytes of local memory, .* has {most}$"
    ):
        module["hoarding"](tensor, 1, 64)


def test_work_that_is_empty_is_none(tensor, make_module):
    make_module(HALVING, "halving", [TENSOR])["halving"](tensor, 0, 64)
    np.testing.assert_array_equal(tensor.numpy(), np.ones(64))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((1.5, 1, 1), "argument 0 has to be a tensor and is float"),
        ((None, 1, 1), "argument 0 has to be a tensor and is None"),
        ((1, 1), "it takes 3 arguments with its launch parameters, and 2 are given"),
    ],
)
def test_a_wrong_argument_is_told(device, make_module, arguments: tuple, says: str):
    with pytest.raises((RuntimeError, ValueError), match=f"kernel halving: {says}"):
        make_module(HALVING, "halving", [TENSOR])["halving"](*arguments)


def test_a_tensor_of_the_host_is_told(device, make_module):
    with pytest.raises(ValueError, match="is no tensor on an OpenCL device"):
        make_module(HALVING, "halving", [TENSOR])["halving"](
            tvm.runtime.tensor(np.ones(64, "float32")), 1, 64
        )


def test_a_number_of_a_wrong_kind_is_told(tensor, make_module):
    module = make_module(
        "__kernel void set(__global float* out, float x) { *out = x; }", "set", [TENSOR, FLOAT]
    )
    with pytest.raises(RuntimeError, match=r"kernel set: argument 1 has to be float32 and is \w+"):
        module["set"](tensor, "x", 1, 1)


def test_a_launch_that_opencl_does_not_know_is_refused(needs_opencl, make_module):
    with pytest.raises(ValueError, match=r"kernel halving: it is launched with .*dyn_shared"):
        make_module(HALVING, "halving", [TENSOR], ("blockIdx.x", "tirx.use_dyn_shared_memory"))


def test_a_tensor_that_is_too_large_is_told_with_both_sizes(device):
    wanted = r"a tensor of 1125899906842624 bytes: .* allows at most \d+ for one"
    with pytest.raises(RuntimeError, match=wanted):
        tvm.runtime.empty((1 << 50,), "int8", device)


def test_a_texture_is_refused_with_the_reason(device):
    with pytest.raises(
        ValueError, match="textures are not supported, since TVM's code for them computes wrong"
    ):
        tvm.runtime.empty((4, 4, 4), "float32", device, "global.texture")


def test_a_device_that_is_not_there_is_told(device):
    with pytest.raises(ValueError, match="there is no OpenCL device 3: there are 1"):
        tvm.runtime.empty((4,), "float32", tvm.opencl(3))


def test_a_process_forked_from_one_that_used_opencl_is_told_so(tensor):
    """The child says by its exit code whether it was refused, and could still free what it inherited."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            tensor.numpy()
        except RuntimeError as error:
            code = 0 if "start processes before OpenCL is used" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
