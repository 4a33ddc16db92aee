"""Replaces the two files of a database together, so that a kill at any moment leaves a pair that fits.

Records name their workload by its line, so new records beside old workloads would be of other functions.
Both are first written under names of their own, workloads first, then renamed in the same order. If only the
new records are found, the workloads were renamed already, and the new records are the valid ones.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from tuning.records import lines
from tuning.records.identity import RECORDS, WORKLOADS

_NEXT = ".next"
_READ_ATTEMPTS = 10


def save(folder: Path, workloads: Iterable[str], records: Iterable[str]) -> None:
    """Make the two files hold these lines; files that hold them already are left alone."""
    pair = ((folder / WORKLOADS, list(workloads)), (folder / RECORDS, list(records)))
    if all(lines.holds(path, content) for path, content in pair):
        return
    for path, content in pair:
        lines.write(_next(path), content)
    for path, _ in pair:
        os.replace(_next(path), path)


def settle(folder: Path) -> None:
    """End what a killed ``save`` began: finish it if the workloads are the new ones, else undo it."""
    workloads, records = _next(folder / WORKLOADS), _next(folder / RECORDS)
    if workloads.exists():
        records.unlink(missing_ok=True)
        workloads.unlink()
    elif records.exists():
        os.replace(records, folder / RECORDS)
    for litter in folder.glob("*.tmp"):
        litter.unlink()


def load(folder: Path) -> tuple[list[str], list[str]]:
    """Return the lines of workloads and records as they were at one moment; nothing is changed.

    Another process may append meanwhile, or replace the files. Records are read first: the workloads that
    they name were written before them.
    """
    for _ in range(_READ_ATTEMPTS):
        before = _files(folder)
        waiting = _next(folder / RECORDS)
        half_saved = waiting.exists() and not _next(folder / WORKLOADS).exists()
        records = lines.read(waiting if half_saved else folder / RECORDS)
        workloads = lines.read(folder / WORKLOADS)
        if _files(folder) == before:
            break
    return workloads, records


def _next(path: Path) -> Path:
    return path.with_name(path.name + _NEXT)


def _files(folder: Path) -> list[int | None]:
    """Return which files stand in the folder, as their inodes."""
    paths = [folder / name for name in (WORKLOADS, RECORDS)]
    return [_inode(path) for path in (*paths, *map(_next, paths))]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
