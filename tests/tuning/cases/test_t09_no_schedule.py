"""T9: a task for which no schedule is valid keeps TVM's default one, and the report says so.

One function of the network loops as often as a value that it reads says. MetaSchedule refuses every schedule
of such a loop; the code itself is right.
"""

from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.s_tir import meta_schedule as ms
from tvm.script import tirx as T

import targets
import tuning
from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY
from tuning.searching.search import Search, cost_model

SIZE, TIMES = 8, 3


@T.prim_func(private=True, s_tir=True)
def add_up(
    x: T.Buffer((T.int64(8),), "float32"),
    n: T.Buffer((T.int64(1),), "int32"),
    out: T.Buffer((T.int64(8),), "float32"),
):
    T.func_attr({"tirx.noalias": True})
    for i in range(T.int64(8)):
        for k in range(n[0]):
            with T.sblock("sum"):
                vi = T.axis.spatial(T.int64(8), i)
                T.axis.reduce(n[0], k)
                with T.init():
                    out[vi] = T.float32(0)
                out[vi] = out[vi] + x[vi]


@pytest.fixture(scope="module")
def network() -> tvm.IRModule:
    """A matrix product, and then ``TIMES`` times its ReLU."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, SIZE), "float32"))
    weight, times = relax.const(np.eye(SIZE, dtype="float32")), relax.const(np.array([TIMES], "int32"))
    with builder.function("main", [x], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.reshape(builder.emit(relax.op.matmul(x, weight)), (SIZE,)))
            function = builder.add_func(add_up, "add_up")
            y = builder.emit(relax.op.nn.relu(y))
            out = relax.TensorType((SIZE,), "float32")
            result = builder.emit_output(builder.emit(relax.call_tir(function, [y, times], out_ty=out)))
        builder.emit_func_output(result)
    return builder.get()


def test_the_search_has_no_candidates_for_it(network: tvm.IRModule, host: targets.TargetInfo) -> None:
    tasks = ms.relax_integration.extract_tasks(
        prepare(network, host.target()), host.target(), module_equality=MODULE_EQUALITY
    )
    (task,) = [each for each in tasks if "add_up" in each.task_name]
    for heavy in (True, False):
        database = ms.database.MemoryDatabase()
        search = Search(task.dispatched[0], host, 1, heavy, database, cost_model(host))
        assert search.candidates(4, set()) == []


def test_the_default_schedule_is_used_and_the_report_says_so(
    network: tvm.IRModule, host: targets.TargetInfo, session: tuning.LocalSession, tmp_path: Path
) -> None:
    result = tuning.tune(network, host, session, tmp_path, tuning.Budget(trials=8))
    without = [each for each in result.tasks if each.best_us is None]
    assert [(each.trials, "add_up" in each.name) for each in without] == [(0, True)]
    assert any("matmul" in each.name and each.best_us for each in result.tasks)
    compiled = tuning.compile_module(network, host, tmp_path)
    assert len(compiled.untuned) == 1
    assert "add_up" in compiled.untuned[0]
    main = relax.VirtualMachine(compiled.executable, tvm.cpu())["main"]
    x = np.linspace(-1, 1, SIZE, dtype="float32").reshape(1, SIZE)
    arguments = [tvm.runtime.tensor(value) for value in (x, *compiled.params.values())]
    np.testing.assert_allclose(main(*arguments).numpy(), TIMES * np.maximum(x[0], 0), rtol=1e-6)
