"""Joins the databases of several machines into one: records of one target, each schedule once.

A schedule that two databases hold keeps its first measurement: the database's own, then those of the sources
in their order. Times of another device of the same kind differ by chance, and the better one of two would
only be the luckier one. Bans travel, as a wrong schedule is wrong everywhere; that a schedule was right on
another device does not: it is compared again.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tvm

from tuning.errors import Mistake
from tuning.records import identity, lines, reading, saving, verdicts
from tuning.records.database import load, locked
from tuning.records.identity import RECORDS, WORKLOADS, directory
from tuning.records.reading import Sorted


@dataclass(frozen=True)
class Joined:
    """What became of the sources' records.

    Attributes
    ----------
    added : int
        Records that the database did not hold.
    duplicates : int
        Records of a schedule that it holds, or that another source gave.
    foreign : int
        Records of other targets.
    rejected : int
        Lines that were no records, or did not fit their functions.
    banned : int
        Schedules that compute wrong numbers and were not known to.
    other_versions : int
        Records of this target that another version of TVM or another method of measuring made.
    unversioned : int
        Sources that do not say by which version they were made; their records were taken.
    """

    added: int = 0
    duplicates: int = 0
    foreign: int = 0
    rejected: int = 0
    banned: int = 0
    other_versions: int = 0
    unversioned: int = 0

    def __str__(self) -> str:
        left_out = {
            "duplicates": self.duplicates,
            "of other targets": self.foreign,
            "no records": self.rejected,
            "of other versions": self.other_versions,
        }
        told = [f"{self.added} records taken over"]
        told += [f"{number} {what}" for what, number in left_out.items() if number]
        if self.banned:
            told.append(f"{self.banned} schedules banned")
        if self.unversioned:
            told.append(f"{self.unversioned} databases do not say by which version they were made")
        return ", ".join(told)


@dataclass
class _Sources:
    """The directories whose records can be used, and what was counted while they were found."""

    folders: list[Path] = field(default_factory=list)
    foreign: int = 0
    other_versions: int = 0
    unversioned: int = 0


def join(base: Path, sources: Sequence[Path], target: tvm.target.Target) -> Joined:
    """Add the records of other databases to a target's database; it changes as a whole or not at all.

    The sources are only read, and may be in use.

    Parameters
    ----------
    base : Path
        The directory that holds the databases of all targets; made if it is missing.
    sources : sequence of Path
        Each such a directory of another machine, or one that holds the two files of a MetaSchedule database.
    target : tvm.target.Target
        The target whose records are meant.

    Raises
    ------
    TuningError
        If a source holds no database, before anything is written; or as ``writable`` does.
    """
    found = _find([Path(source) for source in sources], target)
    folder = directory(base, target)
    with locked(folder):
        given = [_read(source, target) for source in found.folders]
        with lines.told(f"cannot use the tuning database {folder}"):
            saving.settle(folder)
            identity.describe(folder, target)
            banned = verdicts.read(folder).adopt_bans([each.verdicts for each in given])
            whole = reading.read(folder, target)
            taken = [_take(each, whole) for each in given]
            reading.set_aside(folder, whole)
            saving.save(folder, whole.workloads, whole.records)
    return Joined(
        added=sum(added for added, _ in taken),
        duplicates=sum(each.duplicates for each in given) + sum(twice for _, twice in taken),
        foreign=sum(each.foreign for each in given) + found.foreign,
        rejected=sum(each.rejected for each in given),
        banned=banned,
        other_versions=found.other_versions,
        unversioned=found.unversioned,
    )


def _find(sources: list[Path], target: tvm.target.Target) -> _Sources:
    """Find the directories whose records can be used."""
    found = _Sources()
    for source in sources:
        with lines.told(f"cannot read the tuning database {source}"):
            if _is_database(source):
                _add_directory(found, source, target)
            elif identity.databases(source):
                found.foreign += identity.other_targets(source, target)
                found.other_versions += identity.other_versions(source, target)
                found.folders += [each for each in [directory(source, target)] if _is_database(each)]
            else:
                raise Mistake(
                    f"{source} holds no tuning database: give a directory that tune wrote, "
                    f"or one with {WORKLOADS} and {RECORDS}"
                )
    return found


def _is_database(folder: Path) -> bool:
    return (folder / WORKLOADS).is_file() and (folder / RECORDS).is_file()


def _add_directory(found: _Sources, folder: Path, target: tvm.target.Target) -> None:
    if not identity.is_ours(folder, target):
        found.other_versions += identity.count(folder)
        return
    found.unversioned += not identity.is_described(folder)
    found.folders.append(folder)


def _read(source: Path, target: tvm.target.Target) -> Sorted:
    """Sort a source's lines; records that do not fit their functions are among the bad ones."""
    with (
        lines.told(f"cannot read the tuning database {source}"),
        tempfile.TemporaryDirectory(prefix="deeprebirth-join-") as copy,
    ):
        found = reading.read(source, target)
        load(Path(copy), found)
        return found


def _take(source: Sorted, whole: Sorted) -> tuple[int, int]:
    """Add a source's records to the whole; return how many were new, and how many it held already."""
    known = set(whole.keys)
    added = twice = 0
    for line, key in zip(source.records, source.keys, strict=True):
        if key in known:
            twice += 1
        elif not whole.verdicts.is_banned(key):
            number, fields = lines.parse(line)
            place = whole.add_workload(key[0], source.workloads[number])
            whole.records.append(lines.dump([place, fields]))
            whole.keys.append(key)
            added += 1
    return added, twice
