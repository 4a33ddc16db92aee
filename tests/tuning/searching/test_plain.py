"""Plain schedules compute what torch does, use vectors, and are records as any other."""

import re
from pathlib import Path

import numpy as np
import pytest
import tvm
from codegen.instructions import read_assembly
from codegen.loops import Counts, count, inner_loop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
from tuning.records.database import trace_key
from tuning.searching.plain import plain_schedules
from tuning.searching.processor import Processor, processor_of
from tuning.searching.space import replay, tune_context

PHONE = tvm.target.Target(
    {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4}
)
ROOMY = Processor(lanes=4, registers=64, cores=4)
SMALL = Processor(lanes=4, registers=16, cores=2)


def candidates(task, target: tvm.target.Target, processor: Processor | None = None) -> list[MeasureCandidate]:
    context = tune_context(task, target, heavy=True)
    found = plain_schedules(task, processor or processor_of(target), 4)
    return [replay(task, each.trace, context) for each in found]


@st.composite
def convolutions(draw: st.DrawFn) -> dict:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    depthwise = draw(st.integers(0, 3)) == 0
    inputs = groups * draw(st.integers(1, 12))
    outputs = groups * draw(st.sampled_from([1, 4, 7, 8, 10, 16, 24, 40]))
    return {
        "inputs": inputs,
        "outputs": inputs if depthwise else outputs,
        "groups": inputs if depthwise else groups,
        "height": draw(st.integers(5, 17)),
        "width": draw(st.integers(5, 30)),
        "kernel": draw(st.sampled_from([1, 2, 3, 5])),
        "stride": draw(st.sampled_from([1, 2])),
        "padding": draw(st.integers(0, 2)),
        "batch": draw(st.sampled_from([1, 1, 2])),
        "relu": draw(st.booleans()),
    }


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=convolutions(), processor=st.sampled_from([None, SMALL]))
def test_they_compute_what_torch_does(
    convolution, computed, host: targets.TargetInfo, sizes: dict, processor: Processor | None
) -> None:
    case = convolution(**sizes)
    values = case.values()
    wanted = case.in_torch(values)
    found = candidates(case.task(host.target()), host.target(), processor)
    assert found
    assert None not in found
    for each in found[:2] + found[-1:]:
        got = computed(each.sch.mod, values, wanted.shape)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_matrix_product(computed, host: targets.TargetInfo) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((3, 50), "float32"))
    weight = relax.const(np.zeros((50, 72), "float32"))
    with builder.function("main", [x], attrs={"num_input": 1}):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.op.matmul(x, weight)))
        builder.emit_func_output(result)
    task = ms.relax_integration.extract_tasks(
        relax.get_pipeline("zero")(builder.get()), host.target(), module_equality="ignore-tensor"
    )[0].dispatched[0]
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(shape).astype("float32") for shape in ((3, 50), (50, 72))]
    found = candidates(task, host.target())
    assert found
    for each in found:
        got = computed(each.sch.mod, values, (3, 72))
        np.testing.assert_allclose(got, values[0] @ values[1], rtol=1e-4, atol=1e-4)


def test_sums_of_a_convolution_are_vectors_of_the_processor(convolution, host: targets.TargetInfo) -> None:
    first = candidates(convolution().task(host.target()), host.target())[0]
    lanes = processor_of(host.target()).lanes
    assert re.search(rf"T.vectorized\(T.int64\({lanes}\)\)", first.sch.mod.script())


IMAGE = {"inputs": 3, "outputs": 64, "height": 64, "width": 64, "kernel": 7, "padding": 3}


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"kernel": 1, "padding": 0},
        {"stride": 2},
        {**IMAGE, "stride": 2},
        {**IMAGE, "stride": 4},
        {"kernel": 5, "padding": 2, "height": 13, "width": 13},
        {"outputs": 64, "height": 13, "width": 13},
        {"inputs": 32, "outputs": 32, "groups": 32, "height": 28, "width": 28},
    ],
    ids=str,
)
def test_code_for_a_phone_multiplies_vectors_only(convolution, sizes: dict) -> None:
    counts = phone_loop(convolution(**sizes))
    assert counts.in_vectors >= 48
    assert counts.in_scalars == 0


@pytest.mark.parametrize("sizes", [{"outputs": 7, "width": 13, "height": 13}, {"outputs": 1, "width": 17}])
def test_vectors_prevail_for_a_phone_where_a_prime_number_of_columns_fills_them(
    convolution, sizes: dict
) -> None:
    assert phone_loop(convolution(**sizes)).vector_share >= 0.9


@pytest.mark.parametrize("outputs", [112, 256])
def test_thirteen_columns_need_few_instructions_for_each_multiply_add(convolution, outputs: int) -> None:
    counts = phone_loop(convolution(inputs=32, outputs=outputs, height=13, width=13))
    assert counts.instructions / counts.multiply_adds < 0.4


@pytest.mark.parametrize(("outputs", "before"), [(16, True), (256, False)])
def test_padding_is_written_before_everything_else_where_blocks_of_channels_are_narrow(
    convolution, outputs: int, before: bool
) -> None:
    first = plain_schedules(convolution(outputs=outputs, height=12, width=12).task(PHONE), ROOMY, 1)[0]
    assert (len(first.get_loops(first.get_sblock("pad_temp"))) == 4) == before


@pytest.mark.parametrize("sizes", [{}, {"kernel": 1, "padding": 0}, {**IMAGE, "stride": 2}], ids=str)
def test_float16_fills_vectors_of_eight(convolution, sizes: dict) -> None:
    newer = targets.find("cortex-a76").target()
    first = candidates(convolution(**sizes, dtype="float16").task(newer), newer)[0]
    code = tvm.compile(first.sch.mod, newer).mod.inspect_source("asm")
    assert len(re.findall(r"\tfmla\tv\d+\.8h", code)) >= 16
    assert not re.findall(r"\tf(?:mla\tv\d+\.4h|madd\th)", code)


def phone_loop(case) -> Counts:
    """Count what a turn of the inner loop does in the code of the first candidate."""
    first = candidates(case.task(PHONE), PHONE)[0]
    return count(inner_loop(read_assembly(tvm.compile(first.sch.mod, PHONE).mod.inspect_source("asm"))).body)


def test_a_record_of_one_is_read_again(
    convolution, computed, tmp_path: Path, host: targets.TargetInfo
) -> None:
    case = convolution()
    task = case.task(host.target())
    files = [str(tmp_path / name) for name in ("workloads.json", "records.json")]
    database = ms.database.JSONDatabase(*files)
    workload = database.commit_workload(task)
    written = candidates(task, host.target())
    for each in written:
        record = ms.database.TuningRecord(each.sch.trace, workload, [1.0], host.target(), each.args_info)
        database.commit_tuning_record(record)
    read = [each.as_measure_candidate() for each in ms.database.JSONDatabase(*files).get_all_tuning_records()]
    keys = [{trace_key(each.sch.trace) for each in found} for found in (written, read)]
    assert len(keys[0]) == 4
    assert keys[0] == keys[1]
    wanted = case.in_torch(case.values())
    got = computed(read[0].sch.mod, case.values(), wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_function_that_is_no_sum_has_none(host: targets.TargetInfo) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((3, 50), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.op.nn.relu(x)))
        builder.emit_func_output(result)
    module = relax.get_pipeline("zero")(builder.get())
    (task,) = ms.relax_integration.extract_tasks(module, host.target())
    assert plain_schedules(task.dispatched[0], SMALL, 4) == []
