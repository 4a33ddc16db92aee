"""Functions without a record: vectors and threads without a search, right numbers, nothing known to fail."""

from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.script import tirx as T

import targets
from tuning import first_schedules as first
from tuning import starting
from tuning.compiler import compile_into
from tuning.records.database import FAILED_SECONDS, MODULE_EQUALITY, trace_key
from tuning.records.verdicts import Judgement, Verdict, Verdicts
from tuning.searching.search import Search
from tuning.searching.transfer import best_of


def product(rows: int, columns: int) -> IRModule:
    a, b = tvm.te.placeholder((rows, 16), name="a"), tvm.te.placeholder((16, columns), name="b")
    k = tvm.te.reduce_axis((0, 16), name="k")
    c = tvm.te.compute((rows, columns), lambda i, j: tvm.te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return IRModule({"main": tvm.te.create_prim_func([a, b, c])})


@T.prim_func(private=True, s_tir=True)
def copy(x: T.Buffer((T.int64(4),), "int32"), y: T.Buffer((T.int64(4),), "int32")):
    for i in range(x[0]):
        with T.sblock("copy"):
            v = T.axis.spatial(4, i)
            y[v] = x[v]


def empty() -> ms.database.Database:
    return ms.database.MemoryDatabase(MODULE_EQUALITY)


def only_record(database: ms.database.Database) -> ms.database.TuningRecord:
    (record,) = database.get_all_tuning_records()
    return record


def candidates(module: IRModule, host: targets.TargetInfo, size: int) -> list:
    search = Search(module, host, 1, True, empty(), ms.cost_model.RandomModel(seed=1))
    return search.candidates(size, set())


@pytest.fixture(autouse=True)
def no_starting_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "starting_records", lambda _: [])


def give_starting(
    monkeypatch: pytest.MonkeyPatch, host: targets.TargetInfo, folder: Path, module: IRModule, place: int
) -> str:
    """Write a file with one candidate of a function as its best record; return the candidate's key."""
    candidate, database = candidates(module, host, place + 1)[place], empty()
    workload, trace = database.commit_workload(module), candidate.sch.trace
    database.commit_tuning_record(
        ms.database.TuningRecord(trace, workload, [1e-6], host.target(), candidate.args_info)
    )
    starting.write(best_of(database), host.target(), "a machine", folder)
    monkeypatch.setattr(first, "starting_records", lambda target: starting.read(target, folder))
    return trace_key(trace)


def test_it_is_the_schedule_with_which_tuning_begins(host: targets.TargetInfo) -> None:
    module = product(8, 32)
    record = only_record(first.first_schedules({"matmul": module}, host, empty()))
    (begun,) = candidates(module, host, 1)
    assert trace_key(record.trace) == trace_key(begun.sch.trace)


def test_what_failed_or_is_wrong_is_not_taken(host: targets.TargetInfo, tmp_path: Path) -> None:
    module, database, verdicts = product(8, 32), empty(), Verdicts(tmp_path / "verdicts.json", {})
    failed, wrong = candidates(module, host, 2)
    workload = database.commit_workload(module)
    database.commit_tuning_record(
        ms.database.TuningRecord(
            failed.sch.trace, workload, [FAILED_SECONDS], host.target(), failed.args_info
        )
    )
    verdicts.add(workload, wrong.sch.trace, Verdict(Judgement.WRONG))
    record = only_record(first.first_schedules({"matmul": module}, host, database, verdicts))
    assert trace_key(record.trace) not in {trace_key(each.sch.trace) for each in (failed, wrong)}


def test_a_starting_record_of_its_sizes_is_taken(
    host: targets.TargetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = give_starting(monkeypatch, host, tmp_path, product(8, 32), place=2)
    record = only_record(first.first_schedules({"matmul": product(8, 32)}, host, empty()))
    assert trace_key(record.trace) == key != trace_key(candidates(product(8, 32), host, 1)[0].sch.trace)


@pytest.mark.parametrize(("rows", "fits"), [(16, True), (7, False)])
def test_one_of_other_sizes_is_taken_if_its_tiles_fit(
    rows: int, fits: bool, host: targets.TargetInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_starting(monkeypatch, host, tmp_path, product(8, 32), place=2)
    record = only_record(first.first_schedules({"matmul": product(rows, 32)}, host, empty()))
    (begun,) = candidates(product(rows, 32), host, 1)
    assert (trace_key(record.trace) != trace_key(begun.sch.trace)) is fits


def test_a_function_that_has_none_keeps_the_default(host: targets.TargetInfo) -> None:
    database = first.first_schedules({"copy": IRModule({"main": copy})}, host, empty())
    assert database.get_all_tuning_records() == []


@settings(max_examples=4, deadline=None)
@given(
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 20),
    size=st.integers(3, 13),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
)
def test_an_untuned_network_computes_what_torch_does(
    inputs: int, outputs: int, size: int, kernel: int, stride: int, host: targets.TargetInfo, tmp_path_factory
) -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, inputs, size, size)).astype("float32")
    weight = rng.standard_normal((outputs, inputs, kernel, kernel)).astype("float32")
    folder = tmp_path_factory.mktemp("compiled")
    options = {"strides": (stride, stride), "padding": (1, 1)}
    summary = compile_into(network(image.shape, weight, options), host, None, str(folder), False)
    assert len(summary.untuned) == summary.functions_total
    library = tvm.runtime.load_module(str(folder / "library.so"))
    weights = tvm.runtime.load_param_dict((folder / "weights.params").read_bytes())
    machine = relax.VirtualMachine(library, tvm.cpu())["main"]
    got = machine(tvm.runtime.tensor(image), *(weights[name] for name in sorted(weights))).numpy()
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(image).double(), torch.from_numpy(weight).double(), stride=stride, padding=1
    )
    wanted = torch.nn.functional.max_pool2d(torch.relu(wanted), 2).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-4)


def network(shape: tuple[int, ...], weight: np.ndarray, options: dict[str, tuple[int, int]]) -> IRModule:
    """A convolution, ReLU and pool."""
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType(shape, "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(image, relax.const(weight), **options))
            y = builder.emit(relax.op.nn.max_pool2d(builder.emit(relax.op.nn.relu(y)), (2, 2), (2, 2)))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return builder.get()
