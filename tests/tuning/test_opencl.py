"""Tuning for a GPU: over RPC on PoCL, resumed, compared with the processor, nothing left on the host."""

from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm_ffi
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.script import tirx as T

import targets
import tuning
from targets.runtime.opencl import is_built, listing
from tuning.building.built import Built
from tuning.building.local import LocalBuilder
from tuning.building.opencl_source import device_source
from tuning.failures import Cause
from tuning.measuring.compare import Comparer
from tuning.measuring.runner import Runner
from tuning.prepare import prepare
from tuning.progress import Line, Trial
from tuning.records import database as db
from tuning.records import kernels, verdicts
from tuning.records.checking import check_best, ranked
from tuning.records.verdicts import Judgement
from tuning.searching.plain_gpu import plain_gpu_schedule

BUDGET = tuning.Budget(trials=7)


@pytest.fixture(scope="module")
def phone() -> targets.TargetInfo:
    if not is_built():
        pytest.skip("needs the package opencl-c-headers when deeprebirth is installed")
    try:
        listing()
    except targets.TargetError as error:
        pytest.skip(f"no OpenCL here: {error}")
    return targets.find("mali-g76+host")


@pytest.fixture(scope="module")
def gpu_session(phone: targets.TargetInfo, session: tuning.LocalSession) -> tuning.LocalSession:
    return session


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dätenbank")


@pytest.fixture(scope="module")
def tuned(base: Path, net, phone: targets.TargetInfo, gpu_session) -> tuning.TuningResult:
    return tuning.tune(net.module, phone, gpu_session, base, BUDGET)


@pytest.fixture(scope="module")
def compiled(tuned, base: Path, net, phone: targets.TargetInfo) -> tuning.Compiled:
    return tuning.compile_module(net.module, phone, base, functions_alone=True)


def conv_task(module: IRModule, info: targets.TargetInfo) -> IRModule:
    target = info.target()
    tasks = ms.relax_integration.extract_tasks(prepare(module, target), target)
    return next(task.dispatched[0] for task in tasks if "conv2d" in task.task_name)


def test_every_task_has_a_time_and_its_best_schedule_is_right(tuned: tuning.TuningResult) -> None:
    assert all(task.best_us > 0 for task in tuned.tasks)
    assert (tuned.trials_measured, tuned.wrong, tuned.uncompared) == (BUDGET.trials, (), ())


def test_resuming_measures_nothing_again(tuned, base: Path, net, phone: targets.TargetInfo) -> None:
    nobody = tuning.RemoteSession("127.0.0.1", 1, "nobody", threads=1)
    again = tuning.tune(net.module, phone, nobody, base, BUDGET)
    assert (again.trials_reused, again.trials_measured) == (BUDGET.trials, 0)
    assert again.tasks == tuned.tasks


def test_the_tuned_network_computes_what_torch_does(compiled, net, phone, gpu_session) -> None:
    assert compiled.records_applied == compiled.functions_total
    library = tuning.Library(compiled.library, compiled.weights)
    (output,) = tuning.run_remote(gpu_session, library, [net.image(2)], device_type=phone.device_type)
    np.testing.assert_allclose(output, net.in_torch(net.image(2)), rtol=1e-4, atol=1e-6)


def test_records_of_the_gpu_are_not_used_for_the_processor(tuned, base: Path, net, host) -> None:
    assert tuning.compile_module(net.module, host, base).records_applied == 0


def test_records_of_the_processor_are_not_used_for_the_gpu(
    net, host: targets.TargetInfo, phone: targets.TargetInfo, session, tmp_path: Path
) -> None:
    tuning.tune(net.module, host, session, tmp_path, tuning.Budget(trials=5))
    assert tuning.compile_module(net.module, host, tmp_path).records_applied > 0
    assert tuning.compile_module(net.module, phone, tmp_path).records_applied == 0


def test_launches_are_kernels_times_calls(compiled: tuning.Compiled) -> None:
    source = device_source(compiled.executable)
    for each in compiled.functions:
        assert each.calls == 1
        assert each.kernels == source.count(f"// Function: {each.name}_kernel")
    assert compiled.launches == sum(each.kernels for each in compiled.functions) >= 4


def test_each_function_is_timed_alone(compiled: tuning.Compiled, phone, gpu_session) -> None:
    times = tuning.kernel_times(gpu_session, phone, compiled)
    assert {each.function for each in times} == set(compiled.functions)
    shown = [each.inference_us for each in times]
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] > 0


def test_a_network_without_its_functions_alone_says_what_to_do(net, host, session) -> None:
    plain = tuning.compile_module(net.module, host, None)
    with pytest.raises(tuning.TuningError, match=r"compile it with functions_alone=True$"):
        tuning.kernel_times(session, host, plain)


class WrongBuilder(LocalBuilder):
    """Builds the wrong function instead of one."""

    def __init__(self, target: targets.TargetInfo, wrong: IRModule, instead_of: IRModule) -> None:
        super().__init__(target, workers=1)
        self._wrong, self._instead_of = wrong, instead_of

    def submit(self, module: IRModule) -> "Future[Built]":
        is_meant = tvm_ffi.structural_equal(module, self._instead_of)
        return super().submit(self._wrong if is_meant else module)


def twice_as_large(net) -> IRModule:
    """The function of the network's convolution, its bias doubled."""
    weights = {name: relax.const(value) for name, value in net.weights.items()}
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType(net.image().shape, "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(image, weights["conv"], padding=1))
            y = builder.emit(relax.op.add(builder.emit(relax.op.add(y, weights["bias"])), weights["bias"]))
            result = builder.emit_output(builder.emit(relax.op.nn.relu(y)))
        builder.emit_func_output(result)
    return builder.get()


def test_a_wrong_schedule_is_found_by_what_the_processor_computes(
    tuned, base: Path, net, phone: targets.TargetInfo, gpu_session, tmp_path: Path
) -> None:
    target = phone.target()
    wrong = plain_gpu_schedule(conv_task(twice_as_large(net), phone), target).mod
    with db.readable(base, target) as (database, _):
        workload = database.commit_workload(conv_task(net.module, phone))
        best = ranked(workload, database)[0]
        with (
            closing(WrongBuilder(phone, wrong, kernels.tuned(best))) as builder,
            Comparer(gpu_session.rpc_config, phone.device_type) as comparer,
        ):
            checked = check_best(workload, database, verdicts.read(tmp_path), builder, comparer)
    ((banned, verdict),) = checked.banned
    assert db.trace_key(banned.trace) == db.trace_key(best.trace)
    assert verdict.difference > 1000 * verdict.tolerance
    assert checked.verdict.judgement is Judgement.RIGHT


def test_a_kernel_beyond_the_device_s_limits_is_not_built(net, phone: targets.TargetInfo) -> None:
    small = replace(phone, gpu=replace(phone.gpu, max_threads=8))
    candidate = plain_gpu_schedule(conv_task(net.module, phone), phone.target()).mod
    with closing(LocalBuilder(small, workers=1)) as builder:
        failure = builder.submit(candidate).result().failure
    assert failure.cause is Cause.BEYOND_LIMITS
    assert "work items, the" in failure.detail


@T.prim_func(s_tir=True)
def unknown_to_drivers(values: T.Buffer((64,), "float32")):
    T.func_attr({"global_symbol": "main", "tirx.noalias": True})
    for i in T.thread_binding(64, thread="threadIdx.x"):
        with T.sblock("values"):
            v_i = T.axis.spatial(64, i)
            values[v_i] = T.call_extern("float32", "no_function_of_opencl", v_i)


def test_a_kernel_that_the_driver_cannot_build_costs_the_candidate_and_its_line_is_told(
    phone: targets.TargetInfo, gpu_session
) -> None:
    arguments = [ms.arg_info.TensorInfo("float32", (64,))]
    with (
        closing(LocalBuilder(phone, workers=1)) as builder,
        Runner(gpu_session.rpc_config, phone.device_type) as runner,
    ):
        built = builder.submit(IRModule({"main": unknown_to_drivers})).result()
        failure = runner.submit(built.path, arguments).result(120).failure
    assert failure.cause is Cause.REFUSED
    assert "cannot build it" in failure.detail
    assert "no_function_of_opencl" in failure.detail


def test_what_would_be_left_to_the_processor_is_told(phone: targets.TargetInfo) -> None:
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((4,), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            call = builder.emit(relax.call_dps_packed("sort_on_host", [image], image.ty))
            result = builder.emit_output(builder.emit(relax.op.nn.relu(call)))
        builder.emit_func_output(result)
    with pytest.raises(tuning.TuningError, match="not all of the network runs on the GPU: sort_on_host"):
        tuning.compile_module(builder.get(), phone, None)


def test_the_log_tells_of_each_trial(net, phone: targets.TargetInfo, gpu_session, tmp_path: Path) -> None:
    told: list[Line] = []
    tuning.tune(net.module, phone, gpu_session, tmp_path, tuning.Budget(trials=1), log=told.append)
    (trial,) = [line for line in told if isinstance(line, Trial)]
    assert trial.seconds
