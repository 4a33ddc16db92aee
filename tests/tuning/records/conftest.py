"""A database with one function and three records of it, as TVM writes it."""

from pathlib import Path

import pytest
import tvm
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.records import database as db
from tuning.records import lines
from tuning.searching.search import Search, cost_model

Lines = list[str]


@pytest.fixture(scope="session")
def function() -> tvm.IRModule:
    a, b = (tvm.te.placeholder((32, 32), name=name) for name in "ab")
    k = tvm.te.reduce_axis((0, 32), name="k")
    c = tvm.te.compute((32, 32), lambda i, j: tvm.te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return tvm.IRModule({"main": tvm.te.create_prim_func([a, b, c])})


@pytest.fixture(scope="session")
def pristine(
    tmp_path_factory: pytest.TempPathFactory, host: targets.TargetInfo, function: tvm.IRModule
) -> tuple[Lines, Lines]:
    """The lines of a database with one workload and three records, as TVM writes them."""
    base = tmp_path_factory.mktemp("pristine")
    with db.writable(base, host.target()) as (database, _):
        workload = database.commit_workload(function)
        search = Search(function, host, 1, True, database, cost_model(host))
        for number, candidate in enumerate(search.candidates(3, set())):
            record = ms.database.TuningRecord(
                candidate.sch.trace, workload, [0.001 * (number + 1)], host.target(), candidate.args_info
            )
            database.commit_tuning_record(record)
    folder = db.directory(base, host.target())
    return lines.read(folder / db.WORKLOADS), lines.read(folder / db.RECORDS)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "dätenbank mit Lücken"


@pytest.fixture
def folder(base: Path, host: targets.TargetInfo, pristine: tuple[Lines, Lines]) -> Path:
    """The directory of a database that holds the pristine lines."""
    folder = db.directory(base, host.target())
    folder.mkdir(parents=True)
    lines.write(folder / db.WORKLOADS, pristine[0])
    lines.write(folder / db.RECORDS, pristine[1])
    return folder
