"""Opens the tuning database: one directory a target, cleaned line by line before TVM sees it.

TVM ends the process, or refuses the whole database, for one bad line; it keeps duplicates and serves records
of one target to another. So each line is read in Python first. Lines that are not records go to a
``.rejected`` file beside it, wrong schedules to a ``.banned`` one; records of other targets and duplicates
are left out; all are counted. TVM then reads files that hold good lines only, and appends to them, one line
a record.
"""

import fcntl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from tuning.errors import TuningError
from tuning.records import identity, judging, lines, reading, saving, verdicts
from tuning.records.identity import RECORDS, WORKLOADS, directory
from tuning.records.keys import trace_key
from tuning.records.reading import Cleaning, Sorted

__all__ = [
    "FAILED_SECONDS",
    "MODULE_EQUALITY",
    "RECORDS",
    "WORKLOADS",
    "Cleaning",
    "best_seconds",
    "directory",
    "load",
    "locked",
    "readable",
    "trace_key",
    "writable",
]

MODULE_EQUALITY = "ignore-tensor"
FAILED_SECONDS = 1e10


@contextmanager
def writable(base: Path, target: tvm.target.Target) -> Iterator[tuple[ms.database.Database, Cleaning]]:
    """Open a target's database for tuning: clean its files in place, lock it, and let TVM append to it.

    Parameters
    ----------
    base : Path
        The directory that holds the databases of all targets; made if it is missing.
    target : tvm.target.Target
        The target whose records are meant.

    Raises
    ------
    TuningError
        If the directory cannot be written, or another process is tuning with it; later, from committing a
        record, if the disk is full.
    """
    folder = directory(base, target)
    with locked(folder):
        with lines.told(f"cannot use the tuning database {folder}"):
            saving.settle(folder)
            identity.describe(folder, target)
            found = reading.read(folder, target)
            database = load(folder, found)
            cleaning = _cleaning(base, target, found)
        yield database, cleaning


@contextmanager
def readable(base: Path | None, target: tvm.target.Target) -> Iterator[tuple[ms.database.Database, Cleaning]]:
    """Open a copy of a target's good records; the files stay as they are. None is an empty database."""
    with tempfile.TemporaryDirectory(prefix="deeprebirth-records-") as copy:
        if base is None:
            yield load(Path(copy), Sorted(verdicts.read(Path(copy)))), Cleaning()
            return
        with lines.told(f"cannot read the tuning database {base}"):
            found = reading.read(directory(base, target), target)
            database = load(Path(copy), found)
            cleaning = _cleaning(base, target, found)
        yield database, cleaning


def best_seconds(run_secs: Iterable[Any] | None) -> float | None:
    """Return the mean of a record's run times in seconds, or None if the trial failed."""
    seconds = [float(each) for each in run_secs or ()]
    if not seconds or max(seconds) >= FAILED_SECONDS:
        return None
    return sum(seconds) / len(seconds)


def load(folder: Path, found: Sorted) -> ms.database.Database:
    """Write the lines into the folder, the bad ones aside, and let TVM read the good ones.

    TVM replays each record's schedule and refuses all of them for one that does not fit its function. Then
    each is tried alone, which takes longer, and those that do not fit join the bad lines.
    """
    try:
        return _written(folder, found)
    except judging.TVM_ERRORS:
        workloads = [ms.database.Workload.from_json(lines.parse(line)) for line in found.workloads]
        fitting = [judging.fits(line, workloads) for line in found.records]
        pairs = list(zip(found.records, found.keys, fitting, strict=True))
        found.bad_records += [line for line, _, fits in pairs if not fits]
        found.records = [line for line, _, fits in pairs if fits]
        found.keys = [key for _, key, fits in pairs if fits]
        return _written(folder, found)


def _written(folder: Path, found: Sorted) -> ms.database.Database:
    reading.set_aside(folder, found)
    saving.save(folder, found.workloads, found.records)
    return _WholeLines(str(folder / WORKLOADS), str(folder / RECORDS), module_equality=MODULE_EQUALITY)


def _cleaning(base: Path, target: tvm.target.Target, found: Sorted) -> Cleaning:
    return Cleaning(
        rejected=found.rejected,
        foreign=found.foreign,
        duplicates=found.duplicates,
        banned=len(found.verdicts.bans),
        other_versions=identity.other_versions(base, target),
    )


class _WholeLines(ms.database.JSONDatabase):
    """TVM's database; where TVM would go on after it wrote a part of a line, this one tells."""

    def commit_workload(self, mod: tvm.ir.IRModule) -> ms.database.Workload:
        workload = super().commit_workload(mod)
        self._require_end(Path(self.path_workload))
        return workload

    def commit_tuning_record(self, record: ms.database.TuningRecord) -> None:
        path = Path(self.path_tuning_record)
        before = path.stat().st_size
        super().commit_tuning_record(record)
        if path.stat().st_size == before:
            raise TuningError(f"cannot write {path}: is the disk full?")
        self._require_end(path)

    def _require_end(self, path: Path) -> None:
        if not lines.is_ended(path):
            raise TuningError(f"cannot write {path}: is the disk full?")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the directory's lock; one process changes a database at a time.

    Raises
    ------
    TuningError
        If it cannot be made, or another process holds its lock.
    """
    with lines.told(f"cannot write the tuning database {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "a")  # noqa: SIM115
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TuningError(
                f"another process is tuning with the database {folder}: wait for it, or use another one"
            ) from None
        yield
