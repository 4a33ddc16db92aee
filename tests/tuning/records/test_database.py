"""The database: good records are used, bad lines set aside and counted, nothing crosses targets."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tvm

import targets
import tuning
from tuning.records import database as db

Lines = list[str]


def read(path: Path) -> Lines:
    return path.read_text(encoding="utf-8").splitlines()


def write(path: Path, lines: Lines, end: str = "\n") -> None:
    path.write_text("\n".join(lines) + end, encoding="utf-8")


def changed(line: str, change: Callable[[list], object]) -> str:
    record = json.loads(line)
    change(record)
    return json.dumps(record)


def unknown_instruction(record: list) -> None:
    record[1][0][0][0][0] = "NoSuchInstruction"


def no_such_workload(record: list) -> None:
    record[0] = 7


def time_of_zero(record: list) -> None:
    record[1][1] = [0.0]


def decision_out_of_range(record: list) -> None:
    record[1][0][1] = [[999, 0]]


def wrong_tile(record: list) -> None:
    for decision in record[1][0][1]:
        if isinstance(decision[1], list):
            decision[1] = decision[1][:1]


def no_such_block(record: list) -> None:
    for step in record[1][0][0]:
        if step[0] == "GetSBlock":
            step[2][0] = "no_such_block"


def nothing_at_all(record: list) -> None:
    record[1] = None


BAD_LINES = {
    "blank": lambda line: "",
    "empty object": lambda line: "{}",
    "null": lambda line: "null",
    "cut": lambda line: line[: len(line) // 2],
    "NaN": lambda line: line.replace("0.00", "NaN", 1),
    "NUL tail": lambda line: line + "\0\0\0",
    "byte order mark inside": lambda line: "\ufeff" + line,
    "number": lambda line: "7",
    "too deep": lambda line: "[" * 100_000,
    "unknown instruction": lambda line: changed(line, unknown_instruction),
    "no such workload": lambda line: changed(line, no_such_workload),
    "time of zero": lambda line: changed(line, time_of_zero),
    "decision out of range": lambda line: changed(line, decision_out_of_range),
    "tile that does not fit": lambda line: changed(line, wrong_tile),
    "no such block": lambda line: changed(line, no_such_block),
    "no record": lambda line: changed(line, nothing_at_all),
}


@pytest.mark.parametrize("damage", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_record_is_set_aside_and_the_others_are_used(
    base: Path, folder: Path, host: targets.TargetInfo, damage: Callable[[str], str]
) -> None:
    good = read(folder / db.RECORDS)
    bad = damage(good[1])
    write(folder / db.RECORDS, [good[0], bad, good[2]])
    with db.writable(base, host.target()) as (database, cleaning):
        assert cleaning == db.Cleaning(rejected=1)
        assert len(database) == 2
    assert read(folder / db.RECORDS) == [good[0], good[2]]
    assert (folder / f"{db.RECORDS}.rejected").read_text(encoding="utf-8").split("\n")[0] == bad
    with db.writable(base, host.target()) as (database, cleaning):
        assert cleaning == db.Cleaning()


def test_a_last_line_without_its_end_is_used_and_the_next_begins_a_line(
    base: Path, folder: Path, host: targets.TargetInfo
) -> None:
    write(folder / db.RECORDS, read(folder / db.RECORDS), end="")
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (3, db.Cleaning())
    assert (folder / db.RECORDS).read_bytes().endswith(b"\n")


def test_a_byte_order_mark_in_front_does_no_harm(base: Path, folder: Path, host: targets.TargetInfo) -> None:
    for name in (db.WORKLOADS, db.RECORDS):
        (folder / name).write_text("\ufeff" + (folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (3, db.Cleaning())


@pytest.mark.parametrize("inserted", ["", "{}", "null", "what is this"])
def test_a_line_put_among_the_workloads_does_not_shift_them(
    base: Path, folder: Path, host: targets.TargetInfo, inserted: str
) -> None:
    write(folder / db.WORKLOADS, [inserted, *read(folder / db.WORKLOADS)])
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning.rejected) == (3, 1)


def test_a_cut_workload_takes_its_records_with_it(base: Path, folder: Path, host: targets.TargetInfo) -> None:
    (workload,) = read(folder / db.WORKLOADS)
    records = read(folder / db.RECORDS)
    second = changed(records[0], lambda record: record.__setitem__(0, 1))
    write(folder / db.WORKLOADS, [workload[:100], workload])
    write(folder / db.RECORDS, [*records, second])
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning.rejected) == (1, 4)


def test_duplicates_are_dropped_and_counted(base: Path, folder: Path, host: targets.TargetInfo) -> None:
    records = read(folder / db.RECORDS)
    slower = changed(records[0], lambda record: record[1].__setitem__(1, [5.0]))
    write(folder / db.RECORDS, [*records, records[2], slower])
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (3, db.Cleaning(duplicates=2))


def test_records_of_another_target_are_left_out_and_counted(
    base: Path, folder: Path, host: targets.TargetInfo, function: tvm.IRModule
) -> None:
    board = {"kind": "llvm", "mcpu": "cortex-a72", "mtriple": "aarch64-linux-gnu"}
    records = read(folder / db.RECORDS)
    foreign = changed(records[0], lambda record: record[1].__setitem__(2, board))
    write(folder / db.RECORDS, [foreign, *records[1:]])
    with db.readable(base, host.target()) as (database, cleaning):
        assert cleaning == db.Cleaning(foreign=1)
        best = database.query_tuning_record(function, host.target(), "main")
        assert float(best.run_secs[0]) == pytest.approx(0.002)


def test_each_target_has_a_directory_of_its_own(base: Path, host: targets.TargetInfo) -> None:
    board = dataclasses.replace(host, triple="aarch64-linux-gnu", cpu="cortex-a72", cores=4)
    assert db.directory(base, host.target()) != db.directory(base, board.target())
    assert db.directory(base, host.target()) == db.directory(base, targets.find("host").target())


def test_reading_leaves_the_files_as_they_are(base: Path, folder: Path, host: targets.TargetInfo) -> None:
    write(folder / db.RECORDS, [*read(folder / db.RECORDS), "{}"])
    before = (folder / db.RECORDS).read_bytes()
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning.rejected) == (3, 1)
    assert (folder / db.RECORDS).read_bytes() == before


def test_no_database_and_an_empty_one_hold_nothing(base: Path, host: targets.TargetInfo) -> None:
    for given in (None, base):
        with db.readable(given, host.target()) as (database, cleaning):
            assert (len(database), cleaning) == (0, db.Cleaning())


def test_two_cannot_tune_with_one_database(base: Path, host: targets.TargetInfo) -> None:
    with (
        db.writable(base, host.target()),
        pytest.raises(tuning.TuningError, match="another process is tuning with the database"),
        db.writable(base, host.target()),
    ):
        pass


def test_a_place_that_cannot_hold_a_database_is_told(tmp_path: Path, host: targets.TargetInfo) -> None:
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    with (
        pytest.raises(tuning.TuningError, match="cannot write the tuning database") as error,
        db.writable(tmp_path / "file", host.target()),
    ):
        pass
    assert "\n" not in str(error.value)
