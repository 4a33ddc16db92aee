"""T7: tuned code that differs from the reference is banned, and the next best is used (apache/tvm#17947).

The wrong kernel is real: for one schedule the builder compiles another network's function, of the same
signature, whose activation lets a tenth of the negative numbers pass.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

import targets
import tuning
from tuning.building.built import Built
from tuning.building.local import LocalBuilder
from tuning.lowering.choice import forms
from tuning.measuring.compare import Comparer
from tuning.prepare import prepare
from tuning.records import database as db
from tuning.records import kernels, lines, verdicts
from tuning.records.checking import Checked, check_best
from tuning.records.verdicts import Judgement


@pytest.fixture(scope="module")
def net(wide_net):
    return wide_net


class WrongBuilder(LocalBuilder):
    """Builds the wrong function instead of some."""

    def __init__(self, target: targets.TargetInfo, wrong: IRModule, instead_of: list[IRModule]) -> None:
        super().__init__(target, workers=1)
        self._wrong = wrong
        self._instead_of = instead_of
        self.asked = 0

    def submit(self, module: IRModule) -> "Future[Built]":
        self.asked += 1
        if any(tvm_ffi.structural_equal(module, each) for each in self._instead_of):
            return super().submit(self._wrong)
        return super().submit(module)


def leaky(net, host: targets.TargetInfo) -> IRModule:
    """The function of a convolution, a bias and a leaky ReLU, with the shapes of the network's."""
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType(net.image().shape, "float32"))
    weights = {name: relax.const(value) for name, value in net.weights.items()}
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(image, weights["conv"], padding=1))
            y = builder.emit(relax.op.add(y, weights["bias"]))
            result = builder.emit_output(builder.emit(relax.op.nn.leakyrelu(y, 0.1)))
        builder.emit_func_output(result)
    target = host.target()
    module = forms(builder.get(), target)[0].module
    tasks = ms.relax_integration.extract_tasks(prepare(module, target), target)
    (task,) = (each for each in tasks if "conv2d" in each.task_name)
    return task.dispatched[0]


@dataclass(frozen=True)
class Found:
    """A database after its best schedules of the convolution were found to be wrong."""

    base: Path
    records: list[ms.database.TuningRecord]
    checked: Checked


@pytest.fixture(scope="module")
def convolutions(net, fill, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    base = tmp_path_factory.mktemp("database")
    records = fill(base, net.module, 16)
    (name,) = [each for each in records if "conv2d" in each]
    return base, records[name]


@pytest.fixture(scope="module")
def found(convolutions, net, host: targets.TargetInfo, session: tuning.LocalSession) -> Found:
    """Check the convolution with a builder that gets its two best schedules wrong."""
    base, records = convolutions
    wrong = WrongBuilder(host, leaky(net, host), [kernels.tuned(record) for record in records[:2]])
    with (
        db.writable(base, host.target()) as (database, _),
        Comparer(session.rpc_config) as comparer,
    ):
        known = verdicts.read(db.directory(base, host.target()))
        workload = database.commit_workload(records[0].workload.mod)
        checked = check_best(workload, database, known, wrong, comparer)
        asked = wrong.asked
        again = check_best(workload, database, known, wrong, comparer)
        assert wrong.asked == asked == 4
        assert again.verdict == checked.verdict
        assert again.banned == ()
    wrong.close()
    return Found(base, records, checked)


def test_the_wrong_schedules_are_banned_and_the_next_best_is_right(found: Found) -> None:
    assert [db.trace_key(record.trace) for record, _ in found.checked.banned] == [
        db.trace_key(record.trace) for record in found.records[:2]
    ]
    for _, verdict in found.checked.banned:
        assert verdict.judgement is Judgement.WRONG
        assert verdict.difference > 1000 * verdict.tolerance
    assert db.trace_key(found.checked.record.trace) == db.trace_key(found.records[2].trace)
    assert found.checked.verdict.judgement is Judgement.RIGHT
    assert found.checked.verdict.difference <= found.checked.verdict.tolerance


def test_the_bans_are_known_to_the_next_run(found: Found, host: targets.TargetInfo) -> None:
    with db.writable(found.base, host.target()) as (database, cleaning):
        workload = database.commit_workload(found.records[0].workload.mod)
        keys = {db.trace_key(each.trace) for each in database.get_all_tuning_records()}
        known = verdicts.read(db.directory(found.base, host.target()))
        banned = known.banned(workload)
        assert cleaning == tuning.Cleaning(banned=2)
        assert banned == {db.trace_key(record.trace) for record in found.records[:2]}
        assert not banned & keys
    aside = db.directory(found.base, host.target()) / f"{db.RECORDS}.banned"
    assert len(lines.read(aside)) == 2


def test_the_compiled_network_uses_the_next_best_and_is_right(
    found: Found, net, host: targets.TargetInfo
) -> None:
    shapes = [tuple(map(int, record.args_info[1].shape)) for record in found.records[:3]]
    assert shapes[2] not in shapes[:2], "the schedules' layouts do not tell them apart"
    compiled = tuning.compile_module(net.module, host, found.base)
    assert compiled.records_applied == compiled.functions_total
    assert compiled.cleaning == tuning.Cleaning(banned=2)
    assert shapes[2] in [value.shape for value in compiled.params.values()]
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    weights = [tvm.runtime.tensor(value) for value in compiled.params.values()]
    output = machine["main"](tvm.runtime.tensor(net.image()), *weights).numpy()
    np.testing.assert_allclose(output, net.in_torch(net.image()), rtol=1e-5, atol=1e-6)


def test_when_every_schedule_is_wrong_none_is_handed_over(
    net, host: targets.TargetInfo, session: tuning.LocalSession, fill, tmp_path: Path
) -> None:
    records = fill(tmp_path, net.module, 2)
    (name,) = [each for each in records if "conv2d" in each]
    modules = [kernels.tuned(record) for record in records[name]]
    wrong = WrongBuilder(host, leaky(net, host), modules)
    with (
        db.writable(tmp_path, host.target()) as (database, _),
        Comparer(session.rpc_config) as comparer,
    ):
        known = verdicts.read(db.directory(tmp_path, host.target()))
        workload = database.commit_workload(records[name][0].workload.mod)
        checked = check_best(workload, database, known, wrong, comparer)
    wrong.close()
    assert (checked.record, checked.verdict, len(checked.banned)) == (None, None, 2)
    compiled = tuning.compile_module(net.module, host, tmp_path)
    assert [function for function in compiled.untuned if "conv2d" in function]
