"""Saving: whenever it is killed, workloads and records that fit are found, old or new."""

import os
from pathlib import Path

import pytest

from tuning.records import saving
from tuning.records.identity import RECORDS, WORKLOADS

OLD = (["[workload 0]", "[workload 1]"], ["[0, of workload 0]", "[1, of workload 1]"])
NEW = (["[workload 1]"], ["[0, of workload 1]"])


class Killed(BaseException):
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saving.save(tmp_path, *OLD)
    return tmp_path


def killed_at(moment: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Save the new pair, but stop before the n-th rename or removal; tell whether there was one."""
    left = moment
    renamed, removed = os.replace, Path.unlink

    def counted() -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    def replace(*arguments: object) -> None:
        counted()
        renamed(*arguments)

    def unlink(*arguments: object, **options: object) -> None:
        counted()
        removed(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        patched.setattr(Path, "unlink", unlink)
        try:
            saving.save(folder, *NEW)
        except Killed:
            return True
    return False


@pytest.mark.parametrize(("moment", "expected"), [(0, OLD), (1, OLD), (2, OLD), (3, NEW)])
def test_a_kill_leaves_the_old_pair_or_the_new(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int, expected: tuple[list[str], list[str]]
) -> None:
    assert killed_at(moment, folder, monkeypatch)
    assert saving.load(folder) == expected
    saving.settle(folder)
    assert saving.load(folder) == expected
    assert sorted(path.name for path in folder.iterdir()) == [RECORDS, WORKLOADS]


def test_saving_takes_four_renames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not killed_at(4, folder, monkeypatch)
    assert saving.load(folder) == NEW


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_kill_while_settling_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    assert killed_at(moment, folder, monkeypatch)
    expected = saving.load(folder)
    for path in (folder / f"{RECORDS}.next", folder / f"{WORKLOADS}.next"):
        if path.exists() and (folder / f"{WORKLOADS}.next").exists():
            path.unlink()
            assert saving.load(folder) == expected
    saving.settle(folder)
    assert saving.load(folder) == expected


def test_files_that_hold_the_lines_are_left_alone(folder: Path) -> None:
    before = [(folder / name).stat().st_ino for name in (WORKLOADS, RECORDS)]
    saving.save(folder, *OLD)
    assert [(folder / name).stat().st_ino for name in (WORKLOADS, RECORDS)] == before


def test_an_empty_directory_holds_nothing(tmp_path: Path) -> None:
    saving.settle(tmp_path)
    assert saving.load(tmp_path) == ([], [])
