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

from tuning.errors import TuningError
from tuning.records import identity, lines, reading, saving, verdicts
from tuning.records.database import load, locked, told
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
    with locked(folder), told(f"cannot use the tuning database {folder}"):
        saving.settle(folder)
        identity.describe(folder, target)
        own = reading.read(folder, target)
        added = [reading.read(source, target) for source in found.folders]
        return _join(folder, own, added, found)


def _join(folder: Path, own: Sorted, added: list[Sorted], found: _Sources) -> Joined:
    known, bans = len(own.verdicts.bans), {}
    for each in added:
        bans.update(each.verdicts.bans)
    whole, duplicates = _merged(own, added, set(bans))
    before = len(own.records) + len(own.bad_records)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-join-") as trial:
        load(Path(trial), whole)
    own.verdicts.add_all(bans.items())
    reading.set_aside(folder, whole)
    saving.save(folder, whole.workloads, whole.records)
    rejected = len(whole.bad_records) + sum(each.rejected for each in added)
    return Joined(
        added=len(whole.records) + len(whole.bad_records) + len(whole.banned) - before - len(own.banned),
        duplicates=duplicates + sum(each.duplicates for each in added),
        foreign=found.foreign + sum(each.foreign for each in added),
        rejected=rejected - len(own.bad_records),
        banned=len(own.verdicts.bans) - known,
        other_versions=found.other_versions,
        unversioned=found.unversioned,
    )
