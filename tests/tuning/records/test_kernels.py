"""The functions that are compared: same signature, same numbers as NumPy, weights rearranged inside."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.measuring.compare import allowed
from tuning.prepare import prepare
from tuning.records import kernels
from tuning.searching.search import Search, cost_model

UNIT_ROUNDOFF = 2.0**-24


@pytest.fixture(scope="module")
def convolution(host: targets.TargetInfo) -> ms.database.Workload:
    """A fused convolution, bias and ReLU whose weights' layouts tuning may change."""
    generator = np.random.default_rng(0)
    image = relax.Var("image", relax.TensorType((1, 4, 9, 9), "float32"))
    kernel = relax.const(generator.standard_normal((16, 4, 3, 3)).astype("float32"))
    bias = relax.const(generator.standard_normal((1, 16, 1, 1)).astype("float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.add(builder.emit(relax.op.nn.conv2d(image, kernel)), bias))
            result = builder.emit_output(builder.emit(relax.op.nn.relu(y)))
        builder.emit_func_output(result)
    target = host.target()
    (task,) = ms.relax_integration.extract_tasks(prepare(builder.get(), target), target)
    return ms.database.Workload(task.dispatched[0])


@pytest.fixture(scope="module")
def record(convolution: ms.database.Workload, host: targets.TargetInfo) -> ms.database.TuningRecord:
    """A record whose schedule rearranges the weights."""
    database = ms.database.MemoryDatabase()
    search = Search(convolution.mod, host, 1, True, database, cost_model(host))
    (candidate,) = search.candidates(1, set())
    return ms.database.TuningRecord(
        candidate.sch.trace, convolution, [0.001], host.target(), candidate.args_info
    )


def run(module: tvm.IRModule, host: targets.TargetInfo, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what a module computes of random arguments, and what NumPy does."""
    path = folder / "library.so"
    module = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
    tvm.tirx.build(module, target=host.target()).export_library(str(path))
    generator = np.random.default_rng(1)
    shapes = [(1, 4, 9, 9), (16, 4, 3, 3), (1, 16, 1, 1), (1, 16, 7, 7)]
    image, kernel, bias, output = (generator.standard_normal(each).astype("float32") for each in shapes)
    tensors = [tvm.runtime.tensor(each) for each in (image, kernel, bias, output)]
    tvm.runtime.load_module(str(path))["main"](*tensors)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))
    convolved = np.einsum("nchwyx,ocyx->nohw", windows, kernel)
    return tensors[-1].numpy(), np.maximum(convolved + bias, 0)


def test_a_record_s_function_rearranges_its_weights_itself(
    record: ms.database.TuningRecord, host: targets.TargetInfo, tmp_path: Path
) -> None:
    assert "layout_rewrite_preproc" in str(record.as_measure_candidate().sch.mod)
    assert tuple(record.args_info[1].shape) != (16, 4, 3, 3)
    given, expected = run(kernels.tuned(record), host, tmp_path)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [kernels.untuned, kernels.in_parallel])
def test_the_untuned_function_computes_what_numpy_does(
    convolution: ms.database.Workload, host: targets.TargetInfo, tmp_path: Path, make
) -> None:
    given, expected = run(make(convolution), host, tmp_path)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_only_loops_over_outputs_go_parallel(convolution: ms.database.Workload) -> None:
    text = kernels.in_parallel(convolution).script()
    padding_convolution_bias_and_relu = 4
    assert text.count("T.parallel(") == padding_convolution_bias_and_relu
    assert "T.parallel" not in kernels.untuned(convolution).script()
    assert 'T.axis.remap("RRR"' in text


def test_a_signature_holds_the_output_and_the_terms_of_a_sum(convolution: ms.database.Workload) -> None:
    found = kernels.signature(convolution)
    assert found.arguments == (
        ("float32", (1, 4, 9, 9)),
        ("float32", (16, 4, 3, 3)),
        ("float32", (1, 16, 1, 1)),
        ("float32", (1, 16, 7, 7)),
    )
    assert (found.outputs, found.terms, found.unit_roundoff) == ((3,), 4 * 3 * 3, UNIT_ROUNDOFF)
    assert allowed(found) == pytest.approx(16 * UNIT_ROUNDOFF * (36 + 16) ** 0.5)


def made(compute) -> ms.database.Workload:
    return ms.database.Workload(tvm.IRModule({"main": tvm.te.create_prim_func(compute)}))


def test_sums_one_after_the_other_add_up_and_the_least_exact_type_counts() -> None:
    a = tvm.te.placeholder((8, 32), "float16", name="a")
    i, j = (tvm.te.reduce_axis((0, 32), name=name) for name in "ij")
    largest = tvm.te.compute((8,), lambda row: tvm.te.max(a[row, i], axis=i), name="largest")
    total = tvm.te.compute((8,), lambda row: tvm.te.sum(a[row, j] - largest[row], axis=j), name="total")
    found = kernels.signature(made([a, total]))
    assert (found.outputs, found.terms, found.unit_roundoff) == ((1,), 64, 2.0**-11)


def test_several_outputs_are_found() -> None:
    a = tvm.te.placeholder((8,), "int32", name="a")
    first = tvm.te.compute((8,), lambda i: a[i] + 1, name="first")
    second = tvm.te.compute((8,), lambda i: first[i] * 2, name="second")
    found = kernels.signature(made([a, first, second]))
    assert (found.outputs, found.terms, found.unit_roundoff) == ((1, 2), 0, 0.0)
