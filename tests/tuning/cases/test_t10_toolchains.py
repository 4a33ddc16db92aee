"""T10: a missing compiler, or one of the wrong machine, is told before tuning starts."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import targets
from tuning.building.toolchain import check_toolchain
from tuning.errors import TuningError

BOARD = targets.TargetInfo(
    name="board",
    description="a board",
    triple="aarch64-linux-gnu",
    cpu="cortex-a72",
    cores=4,
    device="a board",
    compiler="aarch64-linux-gnu-g++",
    compiler_package="g++-aarch64-linux-gnu",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH."""
    path = tmp_path / "Werkzeuge für Boards"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
    return path


def put(folder: Path, name: str, script: str) -> None:
    """Put a shell script into a folder."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    (folder / name).chmod(0o755)


def refusal(target: targets.TargetInfo) -> str:
    """Return why a target is refused; one line."""
    with pytest.raises((TuningError, targets.TargetError)) as refused:
        check_toolchain(target)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_missing_compiler_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(BOARD) == (
        "target board needs the compiler aarch64-linux-gnu-g++, which is not on PATH: "
        "install the package g++-aarch64-linux-gnu"
    )


def test_a_compiler_of_this_machine_under_the_boards_name_is_told(folder: Path) -> None:
    (folder / BOARD.compiler).symlink_to(shutil.which("g++"))
    told = refusal(BOARD)
    assert f"{folder / BOARD.compiler} does not make libraries for the target board" in told
    assert "install the package g++-aarch64-linux-gnu" in told


def test_a_compiler_that_links_for_another_machine_is_told(folder: Path) -> None:
    """It does not look at the objects, so that its linker has no reason to complain."""
    put(
        folder,
        BOARD.compiler,
        'while [ "$1" != -o ]; do shift; done; exec g++ -shared -x c /dev/null -o "$2"',
    )
    told = refusal(BOARD)
    assert "x86-64, 64 bits" in told
    assert "not for AArch64, 64 bits" in told


def test_a_compiler_that_fails_is_told_with_what_it_says(folder: Path, host: targets.TargetInfo) -> None:
    put(folder, "broken", "echo 'ld: no such sysroot' >&2; exit 1")
    assert "broken cannot link: ld: no such sysroot" in refusal(replace(host, compiler="broken"))


def test_a_compiler_that_writes_nothing_is_told(folder: Path, host: targets.TargetInfo) -> None:
    put(folder, "idle", "exit 0")
    assert "No such file" in refusal(replace(host, compiler="idle"))


def test_an_unknown_architecture_is_told(host: targets.TargetInfo) -> None:
    assert "'vax-unknown-ultrix'" in refusal(replace(host, triple="vax-unknown-ultrix"))


def test_sound_compilers_pass(host: targets.TargetInfo) -> None:
    check_toolchain(host)
    if shutil.which(BOARD.compiler):
        check_toolchain(BOARD)
