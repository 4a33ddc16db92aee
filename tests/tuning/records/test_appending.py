"""Appending while tuning: a kill costs the line being written at most, and a full disk is told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import targets
from tuning.records import database as db
from tuning.records import lines

APPENDER = """
import resource, sys
from pathlib import Path
import tvm
from tvm.s_tir import meta_schedule as ms
import targets, tuning
from tuning.records import database as db

base, room = sys.argv[1:]
values = tvm.te.placeholder((64,), name="values")
doubled = tvm.te.compute((64,), lambda i: values[i] * 2, name="doubled")
function = tvm.IRModule({"main": tvm.te.create_prim_func([values, doubled])})
target = targets.find("host").target()

def record(number, workload):
    schedule = tvm.s_tir.Schedule(function)
    schedule.annotate(schedule.get_sblock("doubled"), "number", number)
    info = ms.arg_info.ArgInfo.from_prim_func(function["main"])
    return ms.database.TuningRecord(schedule.trace, workload, [0.001], target, info)

with db.writable(Path(base), target) as (database, cleaning):
    workload = database.commit_workload(function)
    print(len(database), cleaning.rejected, cleaning.duplicates, flush=True)
    if int(room):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), int(room)))
    for number in range(len(database), 100_000):
        try:
            database.commit_tuning_record(record(number, workload))
        except tuning.TuningError as error:
            print("told:", error, flush=True)
            break
        print(number, flush=True)
"""


def appender(base: Path, room: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(base), str(room)], stdout=subprocess.PIPE, text=True
    )


def test_kill_9_while_appending_loses_nothing_that_was_told(base: Path, host: targets.TargetInfo) -> None:
    told = 0
    for _ in range(2):
        process = appender(base)
        held, rejected, duplicates = map(int, process.stdout.readline().split())
        assert held >= told
        assert rejected <= 1
        assert duplicates == 0
        for _ in range(20):
            told = int(process.stdout.readline()) + 1
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with db.readable(base, host.target()) as (database, cleaning):
        assert len(database) >= told >= 40
        assert cleaning.rejected <= 1


@pytest.mark.parametrize("kept", [1, 200, 400])
def test_what_tvm_appends_after_a_cut_line_is_a_line_of_its_own(
    base: Path, folder: Path, host: targets.TargetInfo, kept: int
) -> None:
    path = folder / db.RECORDS
    good = lines.read(path)
    path.write_bytes("".join(f"{line}\n" for line in good[:2]).encode() + good[2][:kept].encode())
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (2, db.Cleaning(rejected=1))
        database.commit_tuning_record(database.get_all_tuning_records()[0])
    assert len(lines.read(path)) == 3
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (2, db.Cleaning(duplicates=1))


def test_a_full_disk_is_told_at_once_and_nothing_is_glued(base: Path, host: targets.TargetInfo) -> None:
    process = appender(base, room=5000)
    output = process.communicate(timeout=240)[0].splitlines()
    assert output[-1].startswith("told: cannot write ")
    assert output[-1].endswith("is the disk full?")
    written = len(output) - 2
    assert written > 1
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (written, db.Cleaning(rejected=1))
