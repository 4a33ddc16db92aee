"""Checking a workload's records: what cannot be compared is said, never taken for right."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import tvm
import tvm_ffi
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.script import tirx as T

import targets
import tuning
from tuning.building.built import Built
from tuning.building.local import LocalBuilder
from tuning.measuring.compare import Comparer
from tuning.records import database as db
from tuning.records import kernels, verdicts
from tuning.records.checking import Checked, check_best, ranked
from tuning.records.verdicts import Judgement

SECONDS = 2


@T.prim_func(s_tir=True)
def sleeping(
    a: T.Buffer((32, 32), "float32"), b: T.Buffer((32, 32), "float32"), c: T.Buffer((32, 32), "float32")
):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "sleep", 600))


@T.prim_func(s_tir=True)
def aborting(
    a: T.Buffer((32, 32), "float32"), b: T.Buffer((32, 32), "float32"), c: T.Buffer((32, 32), "float32")
):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "abort"))


class SwappingBuilder(LocalBuilder):
    """Builds another function instead of some."""

    def __init__(self, target: targets.TargetInfo, swaps: list[tuple[IRModule, tvm.tirx.PrimFunc]]) -> None:
        super().__init__(target, workers=1)
        self._swaps = swaps

    def submit(self, module: IRModule) -> "Future[Built]":
        for known, other in self._swaps:
            if tvm_ffi.structural_equal(module, known):
                return super().submit(IRModule({"main": other}))
        return super().submit(module)


@pytest.fixture
def check(
    base: Path, folder: Path, host: targets.TargetInfo, session: tuning.LocalSession
) -> Callable[..., Checked]:
    """Check the workload of the pristine database with a builder that swaps functions."""

    def checked(*swaps: tuple[Callable[..., IRModule], int | None, tvm.tirx.PrimFunc]) -> Checked:
        with db.writable(base, host.target()) as (database, _), ready(session) as comparer:
            workload = database.get_all_tuning_records()[0].workload
            best = ranked(workload, database)
            pairs = [
                (make(workload if place is None else best[place]), function)
                for make, place, function in swaps
            ]
            builder = SwappingBuilder(host, pairs)
            try:
                return check_best(workload, database, verdicts.read(folder), builder, comparer)
            finally:
                builder.close()

    return checked


@contextmanager
def ready(session: tuning.LocalSession) -> Iterator[Comparer]:
    with Comparer(session.rpc_config, seconds=SECONDS) as comparer:
        yield comparer


def seconds(record: ms.database.TuningRecord) -> float:
    return float(record.run_secs[0])


def test_the_best_record_is_compared_and_found_right(check: Callable[..., Checked]) -> None:
    found = check()
    assert seconds(found.record) == pytest.approx(0.001)
    assert found.verdict.judgement is Judgement.RIGHT
    assert found.banned == ()


def test_an_untuned_function_that_takes_too_long_is_run_in_parallel(check: Callable[..., Checked]) -> None:
    assert check((kernels.untuned, None, sleeping)).verdict.judgement is Judgement.RIGHT


def test_what_takes_too_long_in_parallel_too_is_not_compared_until_it_can_be(
    check: Callable[..., Checked], folder: Path
) -> None:
    found = check((kernels.untuned, None, sleeping), (kernels.in_parallel, None, sleeping))
    assert seconds(found.record) == pytest.approx(0.001)
    assert str(found.verdict) == f"not compared: the untuned function took longer than {SECONDS} s"
    assert found.banned == ()
    assert verdicts.read(folder).bans == {}
    assert check().verdict.judgement is Judgement.RIGHT


def test_a_schedule_that_crashes_is_banned(check: Callable[..., Checked]) -> None:
    found = check((kernels.tuned, 0, aborting))
    assert seconds(found.record) == pytest.approx(0.002)
    ((record, verdict),) = found.banned
    assert seconds(record) == pytest.approx(0.001)
    assert verdict.judgement is Judgement.WRONG
    assert verdict.detail == "the tuned function crashed on the device: ended by SIGABRT"


def test_a_workload_whose_trials_all_failed_has_no_best_record(
    base: Path, folder: Path, host: targets.TargetInfo, session: tuning.LocalSession
) -> None:
    with db.writable(base, host.target()) as (database, _):
        (first, *_) = database.get_all_tuning_records()
    path = folder / db.RECORDS
    path.write_text(path.read_text(encoding="utf-8").replace("[0.00", "[100000000000.00"), encoding="utf-8")
    with db.writable(base, host.target()) as (database, _), ready(session) as comparer:
        workload = database.commit_workload(first.workload.mod)
        assert len(database) == 3
        builder = SwappingBuilder(host, [])
        known = verdicts.read(folder)
        assert check_best(workload, database, known, builder, comparer) == Checked(None, None)
        builder.close()
