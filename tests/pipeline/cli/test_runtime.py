"""`deeprebirth runtime`: a folder that takes its place whole, and what is given wrongly."""

import json
import os
import shutil
from pathlib import Path

import pytest

import targets
from pipeline.cli.main import run
from pipeline.files import fresh_directory

BOARD = "raspberry-pi-4"


@pytest.fixture
def compiler() -> str:
    target = targets.find(BOARD)
    if shutil.which(target.compiler) is None:
        pytest.skip(f"needs the package {target.compiler_package}")
    return target.compiler


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    assert run(["runtime", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()[-1]


def test_a_folder_takes_the_place_of_an_older_one(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "mein Brett ü"
    with fresh_directory(place) as older:
        (older / "older").touch()
    assert run(["runtime", "--target", BOARD, "-o", str(place), "--key", "pi", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["target"], shown["path"]) == (BOARD, str(place))
    assert shown["bytes"] < 10_000_000
    assert not (place / "older").exists()
    assert "--key pi " in (place / "README").read_text(encoding="utf-8")
    assert (place / "bin/deeprebirth-server").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_a_folder_of_the_users_is_not_replaced(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    line = told(capsys, "--target", BOARD, "-o", tmp_path)
    assert "holds files that deeprebirth did not write (thesis.txt)" in line
    assert "a file is in the way" in told(capsys, "--target", BOARD, "-o", tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_missing_compiler_is_told_with_its_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = told(capsys, "--target", BOARD, "-o", tmp_path / "out")
    assert "aarch64-linux-gnu-g++" in line
    assert "install the package g++-aarch64-linux-gnu" in line
    assert not (tmp_path / "out").exists()


def test_a_compiler_for_another_machine_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = told(capsys, "--target", BOARD, "-o", tmp_path / "out", "--cc", "g++")
    assert "the library is for x86-64" in line


def test_wheels_that_cannot_be_fetched_are_told(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    line = told(capsys, "--target", BOARD, "-o", tmp_path / "out")
    assert "for the board cannot be fetched (No matching distribution found for apache-tvm" in line
    assert "check the network, or give --tvm-runtime DIR" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cortex-a9", "android-arm64", "android-armv7"])
def test_where_there_is_no_prebuilt_runtime_it_is_said_how_to_make_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = told(capsys, "--target", name, "-o", tmp_path / "out")
    assert f"no prebuilt TVM runtime for {name}: give --tvm-runtime DIR" in line
    assert "to make it, build the runtime of TVM" in line


def test_a_runtime_that_lacks_something_is_told(
    compiler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = told(capsys, "--target", BOARD, "-o", tmp_path / "out", "--tvm-runtime", tmp_path)
    assert "has no lib/libtvm_runtime_extra.so: build the runtime of TVM" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--target", "host"], "use `deeprebirth serve` there"),
        (["--target", "raspberry-pi-44"], "unknown target 'raspberry-pi-44'"),
        (["--target", BOARD, "--key", "a b"], "--key 'a b': write it without spaces"),
    ],
)
def test_a_wrong_target_or_key_is_told(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in told(capsys, *words, "-o", tmp_path / "out")
