"""One file of records for each family of processors: those with the same vectors.

A file is a compressed text of JSON lines. The first says what its records are: of which family, on what they
were measured, by which version of TVM and which method of measuring. Each other line is the best record of a
function, with the function and its structure, so that only those that are wanted are ever given to TVM.

A file of another version is left out. So is one that is damaged or says to be of another family, with a
warning: without it tuning begins with plain schedules.
"""

import base64
import json
import lzma
import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import Trace
from tvm.s_tir import meta_schedule as ms

from tuning.records import lines
from tuning.records.database import MODULE_EQUALITY
from tuning.records.identity import MEASURING, RECORDS, WORKLOADS
from tuning.searching.processor import processor_of
from tuning.searching.transfer import Known, Structure

FOLDER = Path(__file__).parent
MOST_ALIKE = 64
MOST_BYTES = 1_000_000
_LANE_BITS = 32
_BYTES_AS_TEXT = "latin-1"
_DAMAGED = (OSError, EOFError, ValueError, TypeError, LookupError, lzma.LZMAError)


@dataclass(frozen=True)
class Stored:
    """A record as it stands in a file.

    Attributes
    ----------
    workload : list
        Its function: a structural hash, and TVM's bytes as a text.
    fields : list
        Its steps and decisions, run times, target and arguments.
    """

    workload: list[str]
    fields: list[Any]

    @cached_property
    def trace(self) -> Trace:
        """Its steps and decisions."""
        digest, module = self.workload
        module = base64.b64encode(module.encode(_BYTES_AS_TEXT)).decode()
        workload = ms.database.Workload.from_json([digest, module])
        return ms.database.TuningRecord.from_json(self.fields, workload).trace


def family_of(target: tvm.target.Target) -> str | None:
    """Return the name of a target's family, such as ``x86_64-256bit``; a GPU has none."""
    if target.kind.name != "llvm":
        return None
    architecture = str(dict(target.export()).get("mtriple", "")).partition("-")[0]
    return f"{architecture}-{_LANE_BITS * processor_of(target).lanes}bit"


def path_of(family: str, folder: Path = FOLDER) -> Path:
    """Return the path of a family's file."""
    return folder / f"{family}.jsonl.xz"


def read(target: tvm.target.Target, folder: Path = FOLDER) -> list[Known]:
    """Return the records of a target's family; none if there is no file that can be used.

    Parameters
    ----------
    target : tvm.target.Target
        Not the one they were measured for: one with such vectors.
    folder : Path
        Holds the files.
    """
    family = family_of(target)
    path = path_of(family or "", folder)
    if family is None or not path.is_file():
        return []
    return list(_read(path, family, path.stat().st_mtime_ns))


@lru_cache
def _read(path: Path, family: str, _changed: int) -> tuple[Known, ...]:
    """Return a file's records; it is read again when it has changed."""
    try:
        about, *records = map(json.loads, lzma.decompress(path.read_bytes()).decode().splitlines())
        if about["family"] != family:
            raise ValueError(f"its records are of {about['family']}")
        return tuple(map(_known, records)) if _versions_of(about) == _versions() else ()
    except _DAMAGED as error:
        warnings.warn(f"the starting records {path} are left out: {error}", stacklevel=3)
        return ()


def write(known: Iterable[Known], target: tvm.target.Target, measured_on: str, folder: Path = FOLDER) -> Path:
    """Make the known records the file of a target's family; return its path.

    Of functions alike the most expensive are kept, `MOST_ALIKE` of them, and of all so many that the file
    has no more than `MOST_BYTES`.

    Parameters
    ----------
    known : iterable of Known
        Their records are MetaSchedule's.
    target : tvm.target.Target
        What they were measured for, a processor.
    measured_on : str
        The device in words.
    folder : Path
        Where the file goes.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    family = family_of(target)
    about = {"family": family, "measured_on": measured_on, **_versions()}
    path = path_of(family, folder)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(_compressed(about, _lines(list(_most_expensive(known)))))
    os.replace(temporary, path)
    return path


def _most_expensive(known: Iterable[Known]) -> Iterator[Known]:
    alike: Counter[Structure] = Counter()
    for each in sorted(known, key=lambda each: -each.seconds):
        alike[each.structure] += 1
        if alike[each.structure] <= MOST_ALIKE:
            yield each


def _compressed(about: dict[str, Any], records: list[str]) -> bytes:
    """Compress as many of the records as the file may hold."""
    while True:
        content = lzma.compress("\n".join([lines.dump(about), *records]).encode())
        if len(content) <= MOST_BYTES:
            return content
        records = records[: len(records) * MOST_BYTES // len(content)]


def _lines(known: list[Known]) -> list[str]:
    """Return a line for each known record; TVM writes records into files only."""
    with tempfile.TemporaryDirectory(prefix="deeprebirth-starting-") as name:
        paths = [Path(name) / each for each in (WORKLOADS, RECORDS)]
        database = ms.database.JSONDatabase(*map(str, paths), module_equality=MODULE_EQUALITY)
        for each in known:
            database.commit_workload(each.record.workload.mod)
            database.commit_tuning_record(each.record)
        workloads, records = ([json.loads(line) for line in lines.read(path)] for path in paths)
    return [
        _line(each, workloads[place], fields) for each, (place, fields) in zip(known, records, strict=True)
    ]


def _line(known: Known, workload: list[str], fields: list[Any]) -> str:
    digest, module = workload
    return lines.dump(
        {
            "structure": known.structure,
            "extents": known.extents,
            "workload": [digest, base64.b64decode(module).decode(_BYTES_AS_TEXT)],
            "record": fields,
        }
    )


def _known(line: dict[str, Any]) -> Known:
    structure = tuple((str(name), tuple(kinds), int(reads)) for name, kinds, reads in line["structure"])
    record = Stored(line["workload"], line["record"])
    seconds = record.fields[1]
    return Known(structure, tuple(map(int, line["extents"])), record, sum(seconds) / len(seconds))


def _versions() -> dict[str, Any]:
    return {"tvm": str(tvm.__version__), "measuring": MEASURING}


def _versions_of(about: dict[str, Any]) -> dict[str, Any]:
    return {key: about[key] for key in _versions()}
