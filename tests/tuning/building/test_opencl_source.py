"""The OpenCL C of float16 kernels: clang accepts it, and refuses what is wrong in it."""

import shutil

import numpy as np
import pytest
import tvm
from tvm import relax, te

import targets
from tuning import TuningError, compile_module
from tuning.building.opencl_source import COMPILER, check_source, device_source

needs_clang = pytest.mark.skipif(shutil.which(COMPILER) is None, reason="clang is not here: install clang")


def source(dtype: str, name: str = "mali-g76") -> str:
    """Build a 3x3 convolution whose rows are work groups."""
    image, weights = (
        te.placeholder((8, 10, 10), dtype, "image"),
        te.placeholder((16, 8, 3, 3), dtype, "weights"),
    )
    i, y, x = te.reduce_axis((0, 8)), te.reduce_axis((0, 3)), te.reduce_axis((0, 3))

    def summand(c, h, w):
        return te.sum(image[i, h + y, w + x] * weights[c, i, y, x], axis=[i, y, x])

    convolved = te.compute((16, 8, 8), summand, name="convolved")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([image, weights, convolved]))
    block = schedule.get_sblock("convolved")
    channel, row, column, *reduced = schedule.get_loops(block)
    for loop, axis in ((channel, "blockIdx.x"), (row, "threadIdx.y"), (column, "threadIdx.x")):
        schedule.bind(loop, axis)
    schedule.decompose_reduction(block, reduced[0])
    return device_source(tvm.tirx.build(schedule.mod, target=targets.find(name).target()))


def network(dtype: str) -> tvm.IRModule:
    """Make convolution, bias, ReLU, pooling and softmax."""
    rng = np.random.default_rng(5)
    weights, bias = (
        relax.const(rng.standard_normal(shape).astype(dtype)) for shape in ((8, 3, 3, 3), (1, 8, 1, 1))
    )
    image = relax.Var("image", relax.TensorType((1, 3, 12, 12), dtype))
    builder = relax.BlockBuilder()
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(image, weights, padding=1))
            y = builder.emit(relax.op.nn.relu(relax.op.add(y, bias)))
            y = builder.emit(relax.op.nn.max_pool2d(y, (2, 2), strides=(2, 2)))
            y = builder.emit_output(relax.op.nn.softmax(relax.op.reshape(y, (1, 288))))
        builder.emit_func_output(y)
    return builder.get()


def refusal(text: str, *, float16: bool = True) -> str:
    with pytest.raises(TuningError) as refused:
        check_source(text, float16=float16)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@needs_clang
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["mali-g76", "mali-t860", "adreno-640+android-arm64", "opencl"])
def test_kernels_are_accepted(dtype: str, name: str) -> None:
    text = source(dtype, name)
    assert ("__global half*" in text) is (dtype == "float16")
    check_source(text, float16=dtype == "float16")


@needs_clang
def test_a_compiled_network_in_float16_is_accepted() -> None:
    """Compiled only: PoCL has no float16, so that nothing here runs it."""
    if tvm.get_global_func("device_api.opencl", allow_missing=True) is None:
        pytest.skip("the OpenCL runtime was not built: install opencl-c-headers, then deeprebirth again")
    text = device_source(compile_module(network("float16"), targets.find("mali-g76+host"), None).executable)
    assert text.count("__global half* restrict") > 4
    check_source(text, float16=True)


@needs_clang
def test_float16_is_refused_for_a_device_that_has_none() -> None:
    assert 'error: "Half precision floating point not supported' in refusal(source("float16"), float16=False)
    check_source(source("float32"), float16=False)


@needs_clang
@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("__global half*", "__global halve*", "error: unknown type name 'halve'"),
        ("get_group_id(0)", "get_group_id(0", "error: expected ')'"),
        ("(half)", "(half)undefined", "error: "),
    ],
)
def test_a_fault_is_refused_with_its_place(good: str, bad: str, told: str) -> None:
    text = source("float16")
    assert good in text
    message = refusal(text.replace(good, bad, 1))
    assert message.startswith("clang does not compile the kernels: <stdin>:")
    assert told in message


def test_without_clang_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal("") == "checking OpenCL C needs clang, which is not on PATH: install the package clang"


def test_code_for_a_processor_has_no_kernels() -> None:
    values = te.placeholder((64,), name="values")
    function = te.create_prim_func([values, te.compute((64,), lambda i: values[i] * 2, name="doubled")])
    assert device_source(tvm.tirx.build(function, target=targets.find("host").target())) == ""
