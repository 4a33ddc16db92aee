"""Sorts the lines of a database: those that TVM may see, and those that are left out, by reason."""

from dataclasses import dataclass, field
from pathlib import Path

import tvm

from tuning.records import judging, lines, saving, verdicts
from tuning.records.identity import RECORDS, WORKLOADS, target_identity
from tuning.records.keys import line_key
from tuning.records.verdicts import VERDICTS, Key, Verdicts

_REJECTED = ".rejected"
_BANNED = ".banned"


@dataclass(frozen=True)
class Cleaning:
    """What was left out when a database was read.

    Attributes
    ----------
    rejected : int
        Lines that were no records, no workloads or no verdicts; they stand in the ``.rejected`` files.
    foreign : int
        Records that were measured for another target.
    duplicates : int
        Records of a schedule that an earlier line holds.
    banned : int
        Schedules that are known to compute wrong numbers.
    other_versions : int
        Records of this target that another version of TVM or another method of measuring made; they stand in
        directories of their own beside this one.
    """

    rejected: int = 0
    foreign: int = 0
    duplicates: int = 0
    banned: int = 0
    other_versions: int = 0

    def __str__(self) -> str:
        counts = {
            "lines that are no records": self.rejected,
            "records of other targets": self.foreign,
            "duplicates": self.duplicates,
            "banned schedules": self.banned,
            "records of other versions": self.other_versions,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"


@dataclass
class Sorted:
    """The lines of a database.

    Attributes
    ----------
    workloads, records : list of str
        What TVM may see. A record names its workload by its position among them.
    keys : list of tuple
        Of each record: its workload's structural hash and its trace's key.
    hashes : list of str
        The workloads' structural hashes.
    bad_workloads, bad_records, banned : list of str
        What it must not see.
    verdicts : Verdicts
        Of the same directory.
    foreign, duplicates : int
        Records that were left out.
    """

    verdicts: Verdicts
    workloads: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    bad_workloads: list[str] = field(default_factory=list)
    bad_records: list[str] = field(default_factory=list)
    banned: list[str] = field(default_factory=list)
    foreign: int = 0
    duplicates: int = 0

    @property
    def rejected(self) -> int:
        """Lines that are neither workloads nor records nor verdicts."""
        return len(self.bad_workloads) + len(self.bad_records) + len(self.verdicts.bad_lines)

    def add_workload(self, digest: str, line: str) -> int:
        """Add a workload that is not there yet; return its position."""
        if digest not in self.hashes:
            self.hashes.append(digest)
            self.workloads.append(line)
        return self.hashes.index(digest)


def read(folder: Path, target: tvm.target.Target) -> Sorted:
    """Sort the lines of a directory's files; nothing is changed.

    A line that is no workload but begins like one (it was cut) holds its place, and its records are rejected
    with it; any other bad line was put in and holds none.
    """
    workloads, records = saving.load(folder)
    found = Sorted(verdicts.read(folder))
    places = _sort_workloads(found, workloads)
    wanted = target_identity(target.export())
    seen: set[Key] = set()
    for line in records:
        record = judging.record_of(line)
        if record is None or record.workload not in places:
            found.bad_records.append(line)
            continue
        place = places[record.workload]
        key = (found.hashes[place], line_key(record.trace))
        if target_identity(record.target) != wanted:
            found.foreign += 1
        elif found.verdicts.is_banned(key):
            found.banned.append(line)
        elif key in seen:
            found.duplicates += 1
        else:
            seen.add(key)
            found.keys.append(key)
            found.records.append(line if place == record.workload else record.line(place))
    return found


def set_aside(folder: Path, found: Sorted) -> None:
    """Keep what TVM must not see in files of their own, and the verdicts without their bad lines."""
    for name, bad in (
        (WORKLOADS + _REJECTED, found.bad_workloads),
        (RECORDS + _REJECTED, found.bad_records),
        (VERDICTS + _REJECTED, found.verdicts.bad_lines),
        (RECORDS + _BANNED, found.banned),
    ):
        lines.add_missing(folder / name, bad)
    if found.verdicts.bad_lines:
        lines.write(folder / VERDICTS, found.verdicts.lines())


def _sort_workloads(found: Sorted, workloads: list[str]) -> dict[int, int]:
    """Return, for the number by which records name a good workload, its position among the good ones."""
    places: dict[int, int] = {}
    number = 0
    for line in workloads:
        digest = judging.workload_hash(line)
        if digest is None:
            found.bad_workloads.append(line)
        else:
            places[number] = found.add_workload(digest, line)
        number += line.startswith("[")
    return places
