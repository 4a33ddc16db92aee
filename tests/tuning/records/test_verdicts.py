"""Verdicts: kept in a file, a ban is final, bad lines are set aside, banned records are never served."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tvm
from tvm.s_tir import meta_schedule as ms

import targets
import tuning
from tuning.records import database as db
from tuning.records import lines, verdicts
from tuning.records.verdicts import Judgement, Verdict

RIGHT = Verdict(Judgement.RIGHT, 1e-7, 1e-5)
WRONG = Verdict(Judgement.WRONG, 0.5, 1e-5)
SLOW = Verdict(Judgement.NOT_COMPARED, detail="the untuned function took longer than 60 s")


@pytest.fixture
def records(base: Path, folder: Path, host: targets.TargetInfo) -> list[ms.database.TuningRecord]:
    with db.readable(base, host.target()) as (database, _):
        return list(database.get_all_tuning_records())


def add(folder: Path, record: ms.database.TuningRecord, *given: Verdict) -> verdicts.Verdicts:
    for each in given:
        verdicts.read(folder).add(record.workload, record.trace, each)
    return verdicts.read(folder)


@pytest.mark.parametrize("verdict", [RIGHT, WRONG, SLOW, Verdict(Judgement.WRONG, detail="not finite")])
def test_a_verdict_is_there_when_it_is_read_again(
    folder: Path, records: list[ms.database.TuningRecord], verdict: Verdict
) -> None:
    known = add(folder, records[0], verdict)
    assert known.verdict_of(records[0].workload, records[0].trace) == verdict
    assert known.verdict_of(records[1].workload, records[1].trace) is None
    assert known.bad_lines == ()


def test_the_last_verdict_counts_but_wrong_is_final(
    folder: Path, records: list[ms.database.TuningRecord]
) -> None:
    first, second, _ = records
    known = add(folder, first, SLOW, RIGHT)
    assert known.verdict_of(first.workload, first.trace) == RIGHT
    known = add(folder, second, RIGHT, WRONG, RIGHT)
    assert known.verdict_of(second.workload, second.trace) == WRONG
    assert known.banned(second.workload) == {db.trace_key(second.trace)}


def test_the_same_verdict_is_written_once(folder: Path, records: list[ms.database.TuningRecord]) -> None:
    add(folder, records[0], RIGHT, RIGHT)
    assert len(lines.read(folder / verdicts.VERDICTS)) == 1


def test_a_banned_record_is_never_served_and_stays_on_disk(
    base: Path,
    folder: Path,
    host: targets.TargetInfo,
    function: tvm.IRModule,
    records: list[ms.database.TuningRecord],
) -> None:
    line = lines.read(folder / db.RECORDS)[0]
    add(folder, records[0], WRONG)
    for opened in (db.readable, db.writable, db.readable):
        with opened(base, host.target()) as (database, cleaning):
            assert (len(database), cleaning) == (2, db.Cleaning(banned=1))
            best = database.query_tuning_record(function, host.target(), "main")
            assert float(best.run_secs[0]) == pytest.approx(0.002)
    assert lines.read(folder / f"{db.RECORDS}.banned") == [line]


BAD_LINES = {
    "blank": "",
    "empty object": "{}",
    "null": "null",
    "list": "[]",
    "no such verdict": '{"workload": "1", "trace": "a", "verdict": "fine"}',
    "NaN": '{"workload": "1", "trace": "a", "verdict": "right", "difference": NaN}',
    "negative": '{"workload": "1", "trace": "a", "verdict": "right", "difference": -1}',
    "text": '{"workload": "1", "trace": "a", "verdict": "right", "difference": "small"}',
    "number for a key": '{"workload": 1, "trace": "a", "verdict": "right"}',
    "list for a verdict": '{"workload": "1", "trace": "a", "verdict": ["right"]}',
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_set_aside_and_the_others_count(
    base: Path, folder: Path, host: targets.TargetInfo, records: list[ms.database.TuningRecord], bad: str
) -> None:
    add(folder, records[0], WRONG)
    path = folder / verdicts.VERDICTS
    path.write_text(f"{bad}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (2, db.Cleaning(rejected=1, banned=1))
    assert lines.read(folder / f"{verdicts.VERDICTS}.rejected") == [bad] or not bad
    with db.writable(base, host.target()) as (_, cleaning):
        assert cleaning == db.Cleaning(banned=1)


def test_a_cut_last_verdict_costs_itself_only(folder: Path, records: list[ms.database.TuningRecord]) -> None:
    add(folder, records[0], WRONG)
    add(folder, records[1], WRONG)
    path = folder / verdicts.VERDICTS
    path.write_bytes(path.read_bytes()[:-20])
    known = add(folder, records[2], RIGHT)
    assert known.verdict_of(records[0].workload, records[0].trace) == WRONG
    assert known.verdict_of(records[1].workload, records[1].trace) is None
    assert known.verdict_of(records[2].workload, records[2].trace) == RIGHT
    assert len(known.bad_lines) == 1


def test_several_threads_may_add(folder: Path, records: list[ms.database.TuningRecord]) -> None:
    known = verdicts.read(folder)
    given = [Verdict(Judgement.RIGHT, number / 100, 1.0) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for number, verdict in enumerate(given):
            pool.submit(known.add, records[number % 3].workload, records[number % 3].trace, verdict)
    again = verdicts.read(folder)
    assert again.bad_lines == ()
    assert len(lines.read(folder / verdicts.VERDICTS)) == len(given)
    for record in records:
        expected = known.verdict_of(record.workload, record.trace)
        assert again.verdict_of(record.workload, record.trace) == expected is not None


def test_a_line_says_what_was_found_in_words(folder: Path, records: list[ms.database.TuningRecord]) -> None:
    add(folder, records[0], WRONG)
    (line,) = lines.read(folder / verdicts.VERDICTS)
    said = json.loads(line)
    assert (said["verdict"], said["difference"], said["tolerance"]) == ("wrong", 0.5, 1e-5)
    assert str(WRONG) == "wrong: differs by 0.5, allowed are 1e-05"
    assert str(SLOW) == "not compared: the untuned function took longer than 60 s"


def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, records: list[ms.database.TuningRecord]
) -> None:
    known = verdicts.read(tmp_path / "file")
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    with pytest.raises(tuning.TuningError, match="cannot write the verdicts") as error:
        known.add(records[0].workload, records[0].trace, WRONG)
    with pytest.raises(tuning.TuningError, match="cannot read the verdicts"):
        verdicts.read(tmp_path / "file")
    assert "\n" not in str(error.value)
