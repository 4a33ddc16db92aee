"""A layer is computed in the way that the database knows to be faster."""

import pytest
import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.lowering.choice import choose, forms, rivals
from tuning.lowering.layers import layers_of
from tuning.prepare import prepare
from tuning.records.database import FAILED_SECONDS, MODULE_EQUALITY
from tuning.searching.plain import plain_schedules
from tuning.searching.plain_winograd import is_winograd, plain_winograd_schedules
from tuning.searching.processor import processor_of
from tuning.searching.space import replay, tune_context


@pytest.fixture
def database() -> ms.database.Database:
    return ms.database.MemoryDatabase(module_equality=MODULE_EQUALITY)


@pytest.fixture
def network(layer) -> IRModule:
    """Two layers with a choice, one after the other, with different sizes, and one without."""
    cases = [layer(inputs=8, outputs=16), layer(inputs=16, outputs=24), layer(inputs=24, kernel=5)]
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 8, 14, 14), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = image
            for case in cases:
                _, weight, bias = case.values()
                y = builder.emit(relax.op.nn.conv2d(y, relax.const(weight), padding=(1, 1, 1, 1)))
                y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, relax.const(bias)))))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get()


def measured(
    module: IRModule, database: ms.database.Database, target: tvm.target.Target, seconds: list[float]
) -> None:
    """Give each function of a network with as many functions as there are times a record."""
    tasks = ms.relax_integration.extract_tasks(
        prepare(module, target), target, module_equality=MODULE_EQUALITY
    )
    functions = sorted((each.dispatched[0] for each in tasks), key=lambda each: size(each))
    for function, time in zip(functions, seconds, strict=True):
        plain = plain_winograd_schedules if is_winograd(function) else plain_schedules
        schedule = plain(function, processor_of(target), 1)[0]
        candidate = replay(function, schedule.trace, tune_context(function, target, heavy=True))
        workload = database.commit_workload(function)
        database.commit_tuning_record(
            ms.database.TuningRecord(candidate.sch.trace, workload, [time], target, candidate.args_info)
        )


def size(function: IRModule) -> int:
    return int(function["main"].params[0].shape[1])


@pytest.mark.parametrize(
    ("direct", "winograd", "chosen"),
    [
        ([1, 1], [2, 0.5], [False, True]),
        ([1, 1], [0.5, 2], [True, False]),
        ([1, 1], [2, 2], [False, False]),
        ([1, 1], [0.5, 0.5], [True, True]),
        ([1, 1], [0.5, FAILED_SECONDS], [True, False]),
        ([1, FAILED_SECONDS], [1, 0.5], [False, True]),
    ],
)
def test_the_faster_way_is_taken(
    network: IRModule,
    database: ms.database.Database,
    host: targets.TargetInfo,
    direct: list[float],
    winograd: list[float],
    chosen: list[bool],
) -> None:
    for form, seconds in zip(forms(network, host.target()), (direct, winograd), strict=True):
        measured(form, database, host.target(), [*seconds, 1.0])
    found = prepare(choose(network, host.target(), database), host.target())
    functions = [IRModule({"main": each}) for each in kernels(found)]
    in_order = sorted(functions, key=size)
    assert [is_winograd(each) for each in in_order] == [*chosen, False]


def kernels(module: IRModule) -> list[tvm.tirx.PrimFunc]:
    return [each for _, each in module.functions_items() if isinstance(each, tvm.tirx.PrimFunc)]


def test_the_database_finds_the_functions_that_were_chosen(
    network: IRModule, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    direct, winograd = forms(network, host.target())
    measured(direct, database, host.target(), [1.0, 1.0, 1.0])
    measured(winograd, database, host.target(), [2.0, 0.5, 1.0])
    found = prepare(choose(network, host.target(), database), host.target())
    normalize = tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")
    assert all(database.has_workload(normalize(each)) for each in kernels(found))


def test_without_records_all_is_direct(
    network: IRModule, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    assert len(layers_of(choose(network, host.target(), database))) == 2


def test_a_gpu_has_the_direct_form_only(network: IRModule) -> None:
    gpu = targets.find("mali-g76").target()
    assert forms(network, gpu) == [network]


def test_each_of_several_equal_layers_is_taken(
    layer, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    """Three layers of one size, two of them followed by the same, one by nothing."""
    _, weight, bias = layer(inputs=8, outputs=8).values()
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 8, 14, 14), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = image
            for factor in (1, 2):
                y = builder.emit(relax.op.nn.conv2d(y, relax.const(factor * weight), padding=(1, 1, 1, 1)))
                y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, relax.const(bias)))))
            y = builder.emit(relax.op.nn.conv2d(y, relax.const(3 * weight), padding=(1, 1, 1, 1)))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    module, target = builder.get(), host.target()
    assert len(rivals(module, target)) == 3
    for form, seconds in zip(forms(module, target), (1.0, 0.5), strict=True):
        measured(form, database, target, [seconds, seconds])
    assert layers_of(choose(module, target, database)) == []
