"""Compilers are found on PATH, in the Android NDK or where the user says, tried, and refused in one line."""

import os
import shutil
from pathlib import Path

import pytest

import targets
from targets.toolchains import ARM64_ANDROID, ARM64_LINUX, ARMV7_LINUX, HOST, TOOLCHAINS, of_triple

NDK_BIN = "toolchains/llvm/prebuilt/linux-x86_64/bin"


def script(path: Path, text: str) -> Path:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def refusal(toolchain: targets.Toolchain) -> str:
    with pytest.raises(targets.TargetError) as refused:
        toolchain.probe()
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture(autouse=True)
def without_ndk(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("toolchain", [HOST, ARM64_LINUX, ARMV7_LINUX], ids=lambda each: each.family)
def test_a_sound_compiler_passes(toolchain: targets.Toolchain) -> None:
    if shutil.which(toolchain.compiler) is None:
        pytest.skip(f"{toolchain.compiler} is not here: install {toolchain.package}")
    assert toolchain.probe() == shutil.which(toolchain.compiler)


def test_every_row_of_the_table_has_its_familys_toolchain() -> None:
    for row in targets.all_targets():
        known = of_triple(row.triple)
        assert known in TOOLCHAINS
        assert (row.family, row.compiler, row.compiler_package) == (
            known.family,
            known.compiler,
            known.package,
        )
    assert of_triple("vax-dec-ultrix") is None


def test_a_missing_compiler_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "aarch64-linux-gnu-g++, which is not on PATH: install the package g++-aarch64" in refusal(
        ARM64_LINUX
    )


def test_a_compiler_of_another_machine_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "Werkzeuge für Boards"
    folder.mkdir()
    (folder / ARM64_LINUX.compiler).symlink_to(shutil.which("g++"))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    told = refusal(ARM64_LINUX)
    assert "and not for AArch64, 64 bits" in told
    assert "install the package g++-aarch64-linux-gnu" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo first >&2; echo 'no such sysroot' >&2; exit 1", "no such sysroot"),
        ("exit 3", "it ended with code 3"),
        ("exit 0", "No such file"),
        ('while [ "$1" != -o ]; do shift; done; echo text > "$2"', "is not an ELF file"),
    ],
)
def test_a_compiler_that_does_not_work_is_told(tmp_path: Path, text: str, told: str) -> None:
    compiler = script(tmp_path / "mein g++", text)
    assert told in refusal(targets.find("host").with_compiler(str(compiler)).toolchain)


def test_without_the_ndk_its_variable_is_named() -> None:
    told = refusal(ARM64_ANDROID)
    assert "ANDROID_NDK_HOME is not set: set ANDROID_NDK_HOME to the folder of the Android NDK" in told


@pytest.mark.parametrize("variable", ["ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"])
def test_a_wrong_folder_of_the_ndk_is_told(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert f"{variable} is {tmp_path}, where there is no toolchains/llvm/prebuilt" in refusal(ARM64_ANDROID)


@pytest.mark.parametrize("variable", ["ANDROID_NDK_HOME", "ANDROID_NDK_ROOT"])
def test_a_compiler_laid_out_as_in_the_ndk_is_found_and_used(
    variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Debian's compiler stands in for the NDK's: where it lies and how it is called are the NDK's."""
    cross = shutil.which(ARM64_LINUX.compiler)
    if cross is None:
        pytest.skip(f"{ARM64_LINUX.compiler} is not here: install {ARM64_LINUX.package}")
    ndk = tmp_path / "android ndk größer"
    compiler = script(ndk / NDK_BIN / ARM64_ANDROID.compiler, f'exec {cross} "$@"')
    monkeypatch.setenv(variable, str(ndk))
    assert ARM64_ANDROID.probe() == str(compiler)
    assert targets.find("android-arm64").require_compiler() == str(compiler)


def test_a_compiler_of_the_users_own_goes_before_the_tables(tmp_path: Path) -> None:
    board = targets.find("raspberry-pi-4")
    assert board.with_compiler(None) is board
    compiler = script(tmp_path / "cc für Boards", "exit 0")
    assert board.with_compiler(str(compiler)).require_compiler() == str(compiler)
    with pytest.raises(targets.TargetError, match="which is not a program: name a C\\+\\+ compiler"):
        board.with_compiler(str(tmp_path / "none")).require_compiler()
    with pytest.raises(targets.TargetError, match="which is not on PATH"):
        board.with_compiler("no-such-g++").require_compiler()
