"""Plain schedules of Winograd's convolution compute what torch does, and are records as any other."""

from pathlib import Path

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
from tuning.lowering.winograd import TAPS, convolved, transformed
from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY, trace_key
from tuning.searching.plain_winograd import is_winograd, plain_winograd_schedules
from tuning.searching.processor import Processor, processor_of
from tuning.searching.space import replay, tune_context

PHONE = tvm.target.Target(
    {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4}
)
SMALL = Processor(lanes=4, registers=16, cores=4)
ALONE = Processor(lanes=8, registers=16, cores=1)
LARGE = Processor(lanes=16, registers=32, cores=2)


def task(case, target: tvm.target.Target, blocks: tuple[int, int] = (8, 8)) -> IRModule:
    (found,) = ms.relax_integration.extract_tasks(
        prepare(case.packed_module(convolved, blocks), target), target, module_equality=MODULE_EQUALITY
    )
    return found.dispatched[0]


def candidates(
    function: IRModule, target: tvm.target.Target, processor: Processor | None = None
) -> list[MeasureCandidate]:
    context = tune_context(function, target, heavy=True)
    found = plain_winograd_schedules(function, processor or processor_of(target), 4)
    return [replay(function, each.trace, context) for each in found]


def computed(
    candidate: MeasureCandidate, case, target: tvm.target.Target, blocks: tuple[int, int] = (8, 8)
) -> np.ndarray:
    """Weights are rearranged when the function is called."""
    image, weight, bias = case.values()
    arguments = [case.packed(image, blocks[0]), transformed(weight, blocks[1])]
    arguments += [case.packed(bias, blocks[1])] if case.relu else []
    shape = [int(each) for each in candidate.args_info[-1].shape]
    output = tvm.runtime.tensor(np.full(shape, np.nan, "float32"))
    tvm.compile(candidate.sch.mod, target)["main"](*map(tvm.runtime.tensor, arguments), output)
    return case.unpacked(output.numpy(), case.outputs)


@st.composite
def convolutions(draw: st.DrawFn) -> dict:
    return {
        "inputs": draw(st.integers(1, 20)),
        "outputs": draw(st.sampled_from([1, 7, 8, 16, 24, 40])),
        "height": draw(st.integers(6, 27)),
        "width": draw(st.integers(6, 27)),
        "kernel": draw(st.sampled_from(TAPS)),
        "padding": draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "batch": draw(st.sampled_from([1, 2])),
        "relu": draw(st.booleans()),
    }


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=convolutions(),
    processor=st.sampled_from([SMALL, ALONE, LARGE]),
    block=st.sampled_from([1, 4, 8, 16]),
)
def test_they_compute_what_torch_does(
    layer, host: targets.TargetInfo, sizes: dict, processor: Processor, block: int
) -> None:
    case, blocks = layer(**sizes), (block, processor.lanes)
    wanted = case.in_torch(*case.values())
    found = candidates(task(case, host.target(), blocks), host.target(), processor)
    assert found
    assert None not in found
    for each in (found[0], found[-1]):
        got = computed(each, case, host.target(), blocks)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("processor", [SMALL, ALONE, LARGE], ids=str)
@pytest.mark.parametrize(("height", "width"), [(6, 6), (11, 13), (14, 9), (37, 29)])
@pytest.mark.parametrize("batch", [2, 3])
def test_strips_nest_in_images(
    layer, host: targets.TargetInfo, processor: Processor, height: int, width: int, batch: int
) -> None:
    """Else TVM cannot tell how many tiles a strip has, and no schedule can be written."""
    sizes = {"kernel": 5, "padding": (1, 1, 2, 2), "height": height, "width": width, "batch": batch}
    function = task(layer(inputs=16, outputs=40, **sizes), host.target(), (8, processor.lanes))
    assert len(plain_winograd_schedules(function, processor, 9)) == (4 if processor.cores > 1 else 2)


@pytest.mark.parametrize("sizes", [{}, {"outputs": 48, "height": 28, "width": 28, "kernel": 5}], ids=str)
def test_code_for_a_phone_multiplies_vectors_only(layer, sizes: dict) -> None:
    first = candidates(task(layer(**sizes), PHONE, (4, 4)), PHONE)[0]
    code = tvm.compile(first.sch.mod, PHONE).mod.inspect_source("asm")
    assert code.count("\tfmla\t") >= 100
    assert "\tfmadd\t" not in code


def test_weights_are_rearranged_when_the_network_is_built(layer, host: targets.TargetInfo) -> None:
    first = candidates(task(layer(), host.target()), host.target())[0]
    assert [list(map(int, each.shape)) for each in first.args_info][1] != [6, 6, 16, 32]


def test_a_record_of_one_is_read_again(layer, tmp_path: Path, host: targets.TargetInfo) -> None:
    case = layer()
    function = task(case, host.target())
    files = [str(tmp_path / name) for name in ("workloads.json", "records.json")]
    database = ms.database.JSONDatabase(*files)
    workload = database.commit_workload(function)
    written = candidates(function, host.target())
    for each in written:
        record = ms.database.TuningRecord(each.sch.trace, workload, [1.0], host.target(), each.args_info)
        database.commit_tuning_record(record)
    read = [each.as_measure_candidate() for each in ms.database.JSONDatabase(*files).get_all_tuning_records()]
    keys = [{trace_key(each.sch.trace) for each in found} for found in (written, read)]
    assert keys[0] == keys[1]
    np.testing.assert_allclose(
        computed(read[0], case, host.target()), case.in_torch(*case.values()), rtol=1e-4, atol=2e-4
    )


def test_only_its_own_functions_are_known(layer, host: targets.TargetInfo) -> None:
    case = layer()
    direct = prepare(case.module(*case.values()[1:]), host.target())
    (found,) = ms.relax_integration.extract_tasks(direct, host.target(), module_equality=MODULE_EQUALITY)
    assert is_winograd(task(case, host.target()))
    assert not is_winograd(found.dispatched[0])
