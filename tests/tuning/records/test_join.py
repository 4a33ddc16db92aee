"""Joining databases: each schedule once, of one target, bans travel, sources stay as they are."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import tvm

import targets
import tuning
from tuning.records import database as db
from tuning.records import identity, lines, verdicts
from tuning.records.join import Joined, join
from tuning.records.verdicts import Judgement, Verdict


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "andere Maschine"


@pytest.fixture
def other(source: Path, host: targets.TargetInfo, pristine: tuple[list[str], list[str]]) -> Path:
    """The directory of another machine's database with another workload first, then the pristine one."""
    values = tvm.te.placeholder((64,), name="values")
    doubled = tvm.te.compute((64,), lambda i: values[i] * 2, name="doubled")
    with db.writable(source, host.target()) as (database, _):
        database.commit_workload(tvm.IRModule({"main": tvm.te.create_prim_func([values, doubled])}))
    folder = db.directory(source, host.target())
    lines.write(folder / db.WORKLOADS, [*lines.read(folder / db.WORKLOADS), *pristine[0]])
    lines.write(folder / db.RECORDS, [changed(line, workload=1) for line in pristine[1]])
    return folder


def changed(line: str, workload: int | None = None, seconds: float | None = None) -> str:
    number, fields = json.loads(line)
    if seconds is not None:
        fields[1] = [seconds]
    return json.dumps([number if workload is None else workload, fields])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_database_joined_to_none_is_all_there(
    base: Path, source: Path, other: Path, host: targets.TargetInfo, function: tvm.IRModule
) -> None:
    before = files(source)
    assert join(base, [source], host.target()) == Joined(added=3)
    assert files(source) == before
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (3, db.Cleaning())
        best = database.query_tuning_record(function, host.target(), "main")
        assert float(best.run_secs[0]) == pytest.approx(0.001)


def test_workloads_are_found_whatever_their_numbers(
    base: Path, folder: Path, source: Path, other: Path, host: targets.TargetInfo
) -> None:
    records = lines.read(folder / db.RECORDS)
    lines.write(folder / db.RECORDS, records[:1])
    assert join(base, [source], host.target()) == Joined(added=2, duplicates=1)
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (3, db.Cleaning())
        assert len({str(record.workload.mod) for record in database.get_all_tuning_records()}) == 1
    assert [json.loads(line)[0] for line in lines.read(folder / db.RECORDS)] == [0, 0, 0]


def test_joining_twice_adds_nothing(
    base: Path, folder: Path, source: Path, other: Path, host: targets.TargetInfo
) -> None:
    join(base, [source], host.target())
    before = files(base)
    assert join(base, [source, other, base], host.target()) == Joined(duplicates=9)
    assert files(base) == before


def test_a_schedule_keeps_its_own_measurement(
    base: Path, folder: Path, source: Path, other: Path, host: targets.TargetInfo, function: tvm.IRModule
) -> None:
    lines.write(other / db.RECORDS, [changed(line, seconds=1e-6) for line in lines.read(other / db.RECORDS)])
    assert join(base, [source], host.target()) == Joined(duplicates=3)
    with db.readable(base, host.target()) as (database, _):
        best = database.query_tuning_record(function, host.target(), "main")
        assert float(best.run_secs[0]) == pytest.approx(0.001)


def test_bans_travel_and_other_verdicts_do_not(
    base: Path, folder: Path, source: Path, other: Path, host: targets.TargetInfo
) -> None:
    with db.readable(source, host.target()) as (database, _):
        first, second, _ = database.get_all_tuning_records()
    theirs = verdicts.read(other)
    theirs.add(first.workload, first.trace, Verdict(Judgement.WRONG, 0.5, 1e-5))
    theirs.add(second.workload, second.trace, Verdict(Judgement.RIGHT, 0.0, 1e-5))
    assert join(base, [source], host.target()) == Joined(duplicates=2, banned=1)
    ours = verdicts.read(folder)
    assert ours.verdict_of(first.workload, first.trace) == Verdict(Judgement.WRONG, 0.5, 1e-5)
    assert ours.verdict_of(second.workload, second.trace) is None
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (2, db.Cleaning(banned=1))


def test_our_ban_keeps_a_source_s_record_out(
    base: Path, folder: Path, source: Path, other: Path, host: targets.TargetInfo
) -> None:
    with db.readable(base, host.target()) as (database, _):
        first = database.get_all_tuning_records()[0]
    verdicts.read(folder).add(first.workload, first.trace, Verdict(Judgement.WRONG, 0.5, 1e-5))
    lines.write(folder / db.RECORDS, [])
    assert join(base, [source], host.target()) == Joined(added=2)


def test_foreign_and_bad_lines_are_counted_and_left_out(
    base: Path, source: Path, other: Path, host: targets.TargetInfo
) -> None:
    records = lines.read(other / db.RECORDS)
    foreign = json.loads(records[0])
    foreign[1][2] = {"kind": "llvm", "mcpu": "cortex-a72", "mtriple": "aarch64-linux-gnu"}
    misfit = json.loads(records[1])
    misfit[1][0][0] = [["GetSBlock", [], ["no_such_block", "main"], ["b0"]]]
    misfit[1][0][1] = []
    lines.write(other / db.RECORDS, [json.dumps(foreign), json.dumps(misfit), "", "{}", records[2]])
    assert join(base, [source], host.target()) == Joined(added=1, foreign=1, rejected=3)
    assert lines.read(other / db.RECORDS)[2:4] == ["", "{}"]


def test_databases_of_other_targets_and_versions_are_counted(
    base: Path, source: Path, other: Path, host: targets.TargetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = dataclasses.replace(host, triple="aarch64-linux-gnu", cpu="cortex-a72", cores=4).target()
    assert join(base, [source], board) == Joined(foreign=3)
    monkeypatch.setattr(identity, "MEASURING", identity.MEASURING + 1)
    assert join(base, [source], host.target()) == Joined(other_versions=3)
    assert join(base, [other], host.target()) == Joined(other_versions=3)


def test_a_plain_metaschedule_database_is_taken_and_said_to_be_of_no_version(
    base: Path, tmp_path: Path, other: Path, host: targets.TargetInfo
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in (db.WORKLOADS, db.RECORDS):
        shutil.copy(other / name, plain / name)
    assert join(base, [plain], host.target()) == Joined(added=3, unversioned=1)


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "records only"])
def test_a_source_without_a_database_is_refused_before_anything_is_written(
    base: Path, source: Path, other: Path, tmp_path: Path, host: targets.TargetInfo, kind: str
) -> None:
    wrong = tmp_path / "kein Datenbestand"
    if kind == "file":
        wrong.write_text("file", encoding="ascii")
    elif kind != "missing":
        wrong.mkdir()
        if kind == "records only":
            shutil.copy(other / db.RECORDS, wrong / db.RECORDS)
    with pytest.raises(tuning.TuningError, match="kein Datenbestand holds no tuning database: ") as error:
        join(base, [source, wrong], host.target())
    assert "\n" not in str(error.value)
    assert not base.exists()


def test_a_source_in_use_can_be_joined_but_a_base_in_use_cannot(
    base: Path, source: Path, other: Path, host: targets.TargetInfo
) -> None:
    with db.writable(source, host.target()):
        assert join(base, [source], host.target()).added == 3
        with pytest.raises(tuning.TuningError, match="another process is tuning"):
            join(source, [base], host.target())
