"""What is in the folder for a board, and what it is made of."""

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

import targets
from targets.elf import machine_of_triple
from targets.runtime import pack
from targets.runtime.compile import check_sources
from targets.runtime.tvm_runtime import LIBRARIES, given

MOST_BYTES = 10_000_000


def test_it_holds_what_the_board_needs_and_is_small(packed) -> None:
    folder, told = packed
    assert {path.name for path in folder.iterdir()} == {
        "bin", "lib", "include", "licences", "start", "deeprebirth-server.service", "README",
    }  # fmt: skip
    assert {path.name for path in (folder / "lib").iterdir()} == set(LIBRARIES)
    assert all((folder / "include" / name).is_file() for name in ("tvm/ffi/tvm_ffi.h", "dlpack/dlpack.h"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size == told.bytes < MOST_BYTES


def test_its_words_are_filled_in(packed) -> None:
    folder, told = packed
    readme = (folder / "README").read_text(encoding="utf-8")
    assert "Raspberry Pi 4" in readme
    assert readme.count("\n") == 5
    assert f"glibc {told.needs['glibc']}" in readme
    unit = (folder / "deeprebirth-server.service").read_text(encoding="utf-8")
    assert re.search(r"^ExecStart=/opt/deeprebirth/start --tracker \S+ --key brett ", unit, re.MULTILINE)
    assert not re.search(r"\$[a-z]", readme + unit)


def test_the_licences_of_what_is_inside_are_there(packed) -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in (packed[0] / "licences").iterdir()}
    assert {"tvm-LICENSE", "tvm-NOTICE", "tvm_ffi-3rdparty-libbacktrace-LICENSE"} <= set(texts)
    assert "Apache License" in texts["tvm-LICENSE"]


def test_what_the_board_needs_is_what_the_linker_says(packed) -> None:
    folder, told = packed
    files = [*folder.glob("lib/*"), *folder.glob("bin/*")]
    said = subprocess.check_output(["aarch64-linux-gnu-readelf", "-V", *files], text=True)
    minors = [int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", said)]
    assert told.needs["glibc"] == f"2.{max(minors)}"


def test_the_start_script_starts_the_server_from_anywhere(packed, tmp_path: Path) -> None:
    """A program that says its words takes the server's place: the script runs on this machine."""
    folder = tmp_path / "ein Brett"
    (folder / "bin").mkdir(parents=True)
    shutil.copy(packed[0] / "start", folder / "start")
    program = folder / "bin/deeprebirth-server"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "link").symlink_to(folder / "start")
    assert stat.S_IMODE((packed[0] / "start").stat().st_mode) == 0o755
    for start in (folder / "start", tmp_path / "link"):
        run = subprocess.run([start, "--key", "zwei Wörter"], capture_output=True, text=True, cwd="/")
        assert run.stdout == "--key|zwei Wörter|"


def test_a_runtime_that_the_user_made_is_taken(packed, board_target, own_runtime, tmp_path: Path) -> None:
    made, folder = tmp_path / "mein TVM", tmp_path / "brett"
    (made / "include").mkdir(parents=True)
    folder.mkdir()
    shutil.copytree(packed[0] / "lib", made / "lib")
    for headers in own_runtime.headers:
        shutil.copytree(headers, made / "include", dirs_exist_ok=True)
    (made / "LICENSE").write_text("of TVM", encoding="utf-8")
    pack(board_target, folder, "k", made)
    assert (folder / "licences/LICENSE").read_text(encoding="utf-8") == "of TVM"
    with (folder / "bin/deeprebirth-server").open("rb") as file:
        assert file.read(20)[18] == machine_of_triple(board_target.triple).number


def test_a_runtime_for_another_machine_is_refused(own_runtime, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    header = tmp_path / "include/tvm/ffi/function.h"
    header.parent.mkdir(parents=True)
    header.touch()
    for library in own_runtime.libraries:
        shutil.copy(library, tmp_path / "lib")
    with pytest.raises(targets.TargetError, match="the library is for x86-64"):
        given(targets.find("cortex-a9"), tmp_path)


def test_the_sources_compile_for_32_bits(own_runtime) -> None:
    target = targets.find("cortex-a9")
    if shutil.which(target.compiler) is None:
        pytest.skip(f"needs the package {target.compiler_package}")
    check_sources(target.require_compiler(), own_runtime)


def test_a_compiler_that_fails_is_told_in_one_line(own_runtime) -> None:
    with pytest.raises(targets.TargetError, match=r"false cannot make .*: it ended with code 1"):
        check_sources("false", own_runtime)
