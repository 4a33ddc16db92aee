"""A layer is computed in the way that the database knows to be faster."""

import pytest
import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.lowering.choice import choose, forms, rivals
from tuning.lowering.network import calls_of_functions
from tuning.prepare import prepare
from tuning.records.database import FAILED_SECONDS, MODULE_EQUALITY
from tuning.searching.plain_packed import plain_packed_schedules
from tuning.searching.plain_winograd import is_winograd, plain_winograd_schedules
from tuning.searching.processor import processor_of
from tuning.searching.space import replay, tune_context


@pytest.fixture
def database() -> ms.database.Database:
    return ms.database.MemoryDatabase(module_equality=MODULE_EQUALITY)


@pytest.fixture
def network(layer) -> IRModule:
    """Two layers with a choice, one after the other, with different sizes, and one without."""
    cases = [layer(inputs=8, outputs=16), layer(inputs=16, outputs=24), layer(inputs=24, kernel=7)]
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
    """Give each convolution of a network with as many of them as there are times a record."""
    tasks = ms.relax_integration.extract_tasks(
        prepare(module, target), target, module_equality=MODULE_EQUALITY
    )
    functions = sorted((each.dispatched[0] for each in tasks if "conv2d" in each.task_name), key=size)
    for function, time in zip(functions, seconds, strict=True):
        plain = plain_winograd_schedules if is_winograd(function) else plain_packed_schedules
        schedule = plain(function, processor_of(target), 1)[0]
        candidate = replay(function, schedule.trace, tune_context(function, target, heavy=True))
        workload = database.commit_workload(function)
        database.commit_tuning_record(
            ms.database.TuningRecord(candidate.sch.trace, workload, [time], target, candidate.args_info)
        )


def size(function: IRModule) -> tuple[int, ...]:
    """Input channels, and more to tell functions apart."""
    data, weight = (each.shape for each in function["main"].params[:2])
    return int(data[1]) * int(data[4]), len(weight)


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
        measured(form.module, database, host.target(), [*seconds, 1.0])
    found = prepare(choose(network, host.target(), database), host.target())
    functions = [IRModule({"main": each}) for name, each in kernels(found).items() if "conv2d" in name]
    in_order = sorted(functions, key=size)
    assert [is_winograd(each) for each in in_order] == [*chosen, False]


def kernels(module: IRModule) -> dict[str, tvm.tirx.PrimFunc]:
    functions = {name.name_hint: each for name, each in module.functions_items()}
    return {name: each for name, each in functions.items() if isinstance(each, tvm.tirx.PrimFunc)}


def winograd_layers(module: IRModule) -> int:
    names = [each.args[0].name_hint for each in calls_of_functions(module)]
    return sum("winograd" in name for name in names)


def test_the_database_finds_the_functions_that_were_chosen(
    network: IRModule, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    direct, winograd = (each.module for each in forms(network, host.target()))
    measured(direct, database, host.target(), [1.0, 1.0, 1.0])
    measured(winograd, database, host.target(), [2.0, 0.5, 1.0])
    found = prepare(choose(network, host.target(), database), host.target())
    normalize = tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")
    convolutions = [each for name, each in kernels(found).items() if "conv2d" in name]
    assert len(convolutions) == 3
    assert all(database.has_workload(normalize(each)) for each in convolutions)


def test_without_records_all_is_direct(
    network: IRModule, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    assert winograd_layers(choose(network, host.target(), database)) == 0


def test_exact_math_is_direct_whatever_is_known(
    network: IRModule, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    for form, seconds in zip(forms(network, host.target()), (1.0, 0.5), strict=True):
        measured(form.module, database, host.target(), [seconds] * 3)
    assert winograd_layers(choose(network, host.target(), database)) == 2
    assert winograd_layers(choose(network, host.target(), database, exact_math=True)) == 0


def test_a_gpu_has_the_direct_form_only(network: IRModule) -> None:
    gpu = targets.find("mali-g76").target()
    (form,) = forms(network, gpu)
    assert form.module.same_as(network)


def test_each_of_several_equal_layers_is_taken(
    layer, database: ms.database.Database, host: targets.TargetInfo
) -> None:
    """Four layers of one size: the first reads the image, two are alike, nothing follows the last."""
    _, weight, bias = layer(inputs=8, outputs=8).values()
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 8, 14, 14), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = image
            for factor in (1, 2, 3):
                y = builder.emit(relax.op.nn.conv2d(y, relax.const(factor * weight), padding=(1, 1, 1, 1)))
                y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, relax.const(bias)))))
            y = builder.emit(relax.op.nn.conv2d(y, relax.const(4 * weight), padding=(1, 1, 1, 1)))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    module, target = builder.get(), host.target()
    assert len(rivals(forms(module, target), target)) == 4
    for form, seconds in zip(forms(module, target), (1.0, 0.5), strict=True):
        measured(form.module, database, target, [seconds] * 3)
    assert winograd_layers(choose(module, target, database)) == 4
