"""Directories: one for each target, version of TVM and method of measuring."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import tvm

import targets
from tuning.records import database as db
from tuning.records import identity


@pytest.fixture
def board(host: targets.TargetInfo) -> tvm.target.Target:
    return dataclasses.replace(host, triple="aarch64-linux-gnu", cpu="cortex-a72", cores=4).target()


def test_a_directory_says_what_its_records_are_of(base: Path, host: targets.TargetInfo) -> None:
    with db.writable(base, host.target()):
        pass
    about = json.loads((db.directory(base, host.target()) / "about.json").read_text(encoding="utf-8"))
    assert about["tvm"] == tvm.__version__
    assert about["measuring"] == identity.MEASURING
    assert about["target"]["mcpu"] == host.target().attrs["mcpu"]


def test_another_method_of_measuring_has_a_directory_of_its_own(
    base: Path, folder: Path, host: targets.TargetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.writable(base, host.target()) as (database, _):
        assert len(database) == 3
    monkeypatch.setattr(identity, "MEASURING", identity.MEASURING + 1)
    for opened in (db.writable, db.readable):
        with opened(base, host.target()) as (database, cleaning):
            assert len(database) == 0
            assert cleaning == db.Cleaning(other_versions=3)


def test_another_version_of_tvm_has_a_directory_of_its_own(
    base: Path, folder: Path, host: targets.TargetInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.writable(base, host.target()):
        pass
    monkeypatch.setattr(tvm, "__version__", "0.99.0")
    with db.readable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (0, db.Cleaning(other_versions=3))
    assert (folder / db.RECORDS).exists()


def test_the_directory_of_before_versions_is_counted_and_left_alone(
    base: Path, folder: Path, host: targets.TargetInfo
) -> None:
    target = {key: value for key, value in host.target().export().items() if key not in ("tag", "keys")}
    digest = hashlib.sha256(json.dumps(target, sort_keys=True, default=int).encode()).hexdigest()
    old = base / digest[:16]
    shutil.move(folder, old)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (0, db.Cleaning(other_versions=3))
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_records_of_other_targets_are_no_other_versions(
    base: Path, folder: Path, board: tvm.target.Target, host: targets.TargetInfo
) -> None:
    with db.writable(base, host.target()):
        pass
    with db.readable(base, board) as (_, cleaning):
        assert cleaning == db.Cleaning()
    assert identity.other_targets(base, board) == 3


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"tvm": NaN}'])
def test_a_damaged_description_is_written_anew(
    base: Path, folder: Path, host: targets.TargetInfo, damaged: str
) -> None:
    (folder / identity.ABOUT).write_text(damaged, encoding="utf-8")
    with db.writable(base, host.target()) as (database, cleaning):
        assert (len(database), cleaning) == (3, db.Cleaning())
    assert json.loads((folder / identity.ABOUT).read_text(encoding="utf-8"))["tvm"] == tvm.__version__
