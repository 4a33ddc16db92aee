"""The tuning database: one directory a target, cleaned line by line before TVM sees it.

TVM ends the process, or refuses the whole database, for one bad line; it keeps duplicates and serves records
of one target to another. So each line is read in Python first. Lines that are not records go to a
``.rejected`` file beside it; records of other targets and duplicates are left out; all are counted. TVM then
reads files that hold good lines only, and appends to them, one line a record.
"""

import base64
import binascii
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import InstructionKind

from tuning.errors import TuningError

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
MODULE_EQUALITY = "ignore-tensor"
FAILED_SECONDS = 1e10
_REJECTED = ".rejected"
_TVM_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


@dataclass(frozen=True)
class Cleaning:
    """What was left out when a database was read, as numbers of lines.

    Attributes
    ----------
    rejected : int
        Lines that were no records; they stand in the ``.rejected`` files.
    foreign : int
        Records that were measured for another target.
    duplicates : int
        Records of a schedule that an earlier line holds.
    """

    rejected: int = 0
    foreign: int = 0
    duplicates: int = 0


@dataclass
class _Lines:
    """The lines of the two files that TVM may see, and those it must not."""

    workloads: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    bad_workloads: list[str] = field(default_factory=list)
    bad_records: list[str] = field(default_factory=list)
    foreign: int = 0
    duplicates: int = 0

    @property
    def cleaning(self) -> Cleaning:
        rejected = len(self.bad_workloads) + len(self.bad_records)
        return Cleaning(rejected, self.foreign, self.duplicates)


def directory(base: Path, target: tvm.target.Target) -> Path:
    """Return the directory of a target's database below ``base``: its digest is the name."""
    text = json.dumps(_identity(target.export()), sort_keys=True)
    return base / hashlib.sha256(text.encode()).hexdigest()[:16]


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
        If the directory cannot be written, or another process is tuning with it.
    """
    folder = directory(base, target)
    with _locked(folder):
        with _told(f"cannot use the tuning database {folder}"):
            lines = _read(folder, target)
            database = _load(folder, lines)
        yield database, lines.cleaning


@contextmanager
def readable(base: Path | None, target: tvm.target.Target) -> Iterator[tuple[ms.database.Database, Cleaning]]:
    """Open a copy of a target's good records; the files stay as they are. None is an empty database."""
    lines = _Lines()
    if base is not None:
        with _told(f"cannot read the tuning database {base}"):
            lines = _read(directory(base, target), target)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-records-") as copy:
        yield _load(Path(copy), lines), lines.cleaning


def trace_key(trace: tvm.s_tir.Trace) -> str:
    """Return a text that is the same for two traces that make the same decisions."""
    return json.dumps(trace.as_json(remove_postproc=True), default=lambda number: number.value)


def best_seconds(run_secs: Iterable[Any] | None) -> float | None:
    """Return the mean of a record's run times in seconds, or None if the trial failed."""
    seconds = [float(each) for each in run_secs or ()]
    if not seconds or max(seconds) >= FAILED_SECONDS:
        return None
    return sum(seconds) / len(seconds)


def _load(folder: Path, lines: _Lines) -> ms.database.Database:
    """Write the lines into the folder, the bad ones aside, and let TVM read the good ones.

    TVM replays each record's schedule and refuses all of them for one that does not fit its function. Then
    each is tried alone, which takes longer, and those that do not fit join the bad lines.
    """
    try:
        return _written(folder, lines)
    except _TVM_ERRORS:
        workloads = [ms.database.Workload.from_json(json.loads(line)) for line in lines.workloads]
        fitting = [line for line in lines.records if _succeeds(partial(_replay, line, workloads))]
        lines.bad_records += [line for line in lines.records if line not in fitting]
        lines.records = fitting
        return _written(folder, lines)


def _written(folder: Path, lines: _Lines) -> ms.database.Database:
    _set_aside(folder, lines)
    _write(folder / WORKLOADS, lines.workloads)
    _write(folder / RECORDS, lines.records)
    return ms.database.JSONDatabase(
        str(folder / WORKLOADS), str(folder / RECORDS), module_equality=MODULE_EQUALITY
    )


def _replay(line: str, workloads: list[ms.database.Workload]) -> None:
    index, fields = json.loads(line)
    ms.database.TuningRecord.from_json(fields, workloads[index]).as_measure_candidate()


def _read(folder: Path, target: tvm.target.Target) -> _Lines:
    """Sort the lines of the two files.

    Records name their workload by its line. A line that is no workload but begins like one (it was cut) holds
    its place, and its records are rejected with it; any other bad line was put in and holds none.
    """
    lines = _Lines()
    renumbered: dict[int, int] = {}
    position = 0
    for line in _lines(folder / WORKLOADS):
        if _is_workload(line):
            renumbered[position] = len(lines.workloads)
            lines.workloads.append(line)
        else:
            lines.bad_workloads.append(line)
        position += line.startswith("[")
    wanted = _identity(target.export())
    seen: set[str] = set()
    for line in _lines(folder / RECORDS):
        record = _record(line)
        if record is None or record[0] not in renumbered:
            lines.bad_records.append(line)
            continue
        index, (trace, _, record_target, _) = record
        key = json.dumps([renumbered[index], trace])
        if _identity(record_target) != wanted:
            lines.foreign += 1
        elif key in seen:
            lines.duplicates += 1
        else:
            seen.add(key)
            unchanged = renumbered[index] == index
            lines.records.append(line if unchanged else _dump([renumbered[index], record[1]]))
    return lines


def _set_aside(folder: Path, lines: _Lines) -> None:
    """Keep the bad lines in ``.rejected`` files."""
    for name, bad in ((WORKLOADS, lines.bad_workloads), (RECORDS, lines.bad_records)):
        if bad:
            path = folder / (name + _REJECTED)
            there = _lines(path)
            _write(path, [*there, *(line for line in bad if line not in there)])


def _is_workload(line: str) -> bool:
    match _parse(line):
        case [str(digest), str(module)] if digest.isdecimal() and _is_graph(module):
            return _succeeds(lambda: ms.database.Workload.from_json([digest, module]))
    return False


def _is_graph(text: str) -> bool:
    """Tell whether a workload's second field holds objects of TVM: base64, in it a length and JSON."""
    try:
        graph = json.loads(base64.b64decode(text, validate=True)[8:])
        return isinstance(graph["nodes"], list) and isinstance(graph["root_index"], int)
    except (binascii.Error, ValueError, KeyError, TypeError):
        return False


def _succeeds(attempt: Callable[[], object]) -> bool:
    """Tell whether TVM does what is asked of it without an error."""
    try:
        attempt()
    except _TVM_ERRORS:
        return False
    return True


def _record(line: str) -> tuple[int, list[Any]] | None:
    """Return the workload's number and the four fields of a record, or None if the line is none."""
    match _parse(line):
        case [int(index), [[list(steps), list(decisions)] as trace, run_secs, dict(target), list(infos)]] if (
            _all(steps, _is_step)
            and _all(decisions, lambda each: _is_decision(each, len(steps)))
            and _are_times(run_secs)
            and _all(infos, _is_tensor)
        ):
            return index, [trace, run_secs, target, infos]
    return None


def _is_step(step: Any) -> bool:
    match step:
        case [str(kind), list(), list(), list(outputs)]:
            return _succeeds(lambda: InstructionKind.get(kind)) and _all(
                outputs, lambda each: isinstance(each, str)
            )
    return False


def _is_decision(decision: Any, steps: int) -> bool:
    match decision:
        case [int(step), value]:
            return 0 <= step < steps and value is not None
    return False


def _are_times(run_secs: Any) -> bool:
    numbers = isinstance(run_secs, list) and _all(run_secs, lambda each: type(each) in (int, float))
    return numbers and len(run_secs) > 0 and min(run_secs) > 0


def _is_tensor(info: Any) -> bool:
    match info:
        case ["TENSOR", str(), list(shape)]:
            return _all(shape, lambda each: type(each) is int and each > 0)
    return False


def _all(values: Iterable[Any], test: Callable[[Any], bool]) -> bool:
    return all(test(value) for value in values)


def _identity(target: Any) -> dict[str, Any]:
    """Return the fields of an exported target that decide what code is made for it."""
    return {key: value for key, value in dict(target).items() if key not in ("tag", "keys")}


def _parse(line: str) -> Any:
    """Parse strict JSON: NaN and infinities are none, and a line that is no JSON gives None."""
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file without their ends; a missing file has none."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


def _write(path: Path, lines: Iterable[str]) -> None:
    """Make the file hold these lines, atomically; one that holds them already is left alone."""
    content = "".join(f"{line}\n" for line in lines).encode()
    if path.exists() and path.read_bytes() == content:
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the directory's lock; one process tunes with a database at a time."""
    with _told(f"cannot write the tuning database {folder}"):
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


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell an error of the operating system in one line."""
    try:
        yield
    except OSError as error:
        raise TuningError(f"{what}: {error.strerror or error}") from None
