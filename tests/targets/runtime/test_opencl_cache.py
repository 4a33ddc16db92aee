"""Programs' binaries on disk: found again, built anew if damaged, bounded."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = """
import json, sys, numpy as np, tvm
library = tvm.runtime.load_module(sys.argv[1])
values = np.arange(100, dtype="float32")
tensor = tvm.runtime.tensor(values, tvm.opencl(0))
result = tvm.runtime.empty((100,), "float32", tvm.opencl(0))
library["main"](tensor, result)
np.testing.assert_array_equal(result.numpy(), values * 3 + 2)
counts = json.loads(tvm.get_global_func("deeprebirth.opencl.counts")())
print(counts["programs_built"], counts["programs_cached"])
"""
BUILT, CACHED = "1 0\n", "0 1\n"


@pytest.fixture(scope="module")
def library(needs_opencl, affine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "affine.so"
    affine("float32", 100).export_library(str(path))
    return path


@pytest.fixture
def run(library: Path) -> Callable[..., str]:
    """Run the library in a process of its own; return how many programs it built and found."""

    def ran(**environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(library)],
            env=os.environ | {"TVM_USE_RUNTIME_LIB": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ran


def test_a_program_is_built_once_for_a_device_and_options(run, tmp_path: Path):
    folder = tmp_path / "Vorrat ä"
    given = {"DEEPREBIRTH_OPENCL_CACHE": str(folder)}
    assert [run(**given), run(**given)] == [BUILT, CACHED]
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run(**given, DEEPREBIRTH_OPENCL_OPTIONS="-cl-mad-enable") == BUILT
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut off", "flipped", "empty", "of another program"])
def test_a_damaged_file_is_built_anew(run, tmp_path: Path, damage: str):
    given = {"DEEPREBIRTH_OPENCL_CACHE": str(tmp_path)}
    run(**given)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    middle = whole[len(whole) * 3 // 4]
    damaged = {
        "cut off": whole[:-100],
        "flipped": whole.replace(whole[-1000:], bytes(byte ^ 1 for byte in whole[-1000:])),
        "empty": b"",
        "of another program": whole.replace(b"__kernel", b"__korrel"),
    }[damage]
    assert damaged != whole, middle
    file.write_bytes(damaged)
    assert [run(**given), run(**given)] == [BUILT, CACHED]
    assert len(file.read_bytes()) == pytest.approx(len(whole), rel=0.1)


def test_the_cache_can_be_in_the_users_folder_or_nowhere(run, tmp_path: Path):
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": "", "POCL_CACHE_DIR": str(tmp_path / "pocl")}
    unset = {key: value for key, value in os.environ.items() if key != "DEEPREBIRTH_OPENCL_CACHE"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", unset)
        assert run(**home) == BUILT
        assert len(list((tmp_path / "home/.cache/deeprebirth/opencl").iterdir())) == 1
        assert run(**home | {"XDG_CACHE_HOME": str(tmp_path / "xdg")}) == BUILT
        assert len(list((tmp_path / "xdg/deeprebirth/opencl").iterdir())) == 1
    for off in ("off", ""):
        assert run(**home, DEEPREBIRTH_OPENCL_CACHE=off) == BUILT


def test_a_folder_that_cannot_be_made_is_no_error(run, tmp_path: Path):
    (tmp_path / "file").touch()
    assert run(DEEPREBIRTH_OPENCL_CACHE=str(tmp_path / "file/cache")) == BUILT


def test_what_was_not_used_for_the_longest_time_makes_room(run, tmp_path: Path):
    """Files of 100 MB with holes: two and the new one are below 256 MiB, three are not."""
    for age, name in enumerate(("new", "older", "oldest")):
        path = tmp_path / f"{name}.clbin"
        with path.open("wb") as file:
            file.truncate(100_000_000)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "of somebody else").touch()
    given = {"DEEPREBIRTH_OPENCL_CACHE": str(tmp_path)}
    assert run(**given) == BUILT
    left = {path.name for path in tmp_path.iterdir()}
    assert {"new.clbin", "older.clbin", "of somebody else"} < left
    assert "oldest.clbin" not in left
    assert run(**given) == CACHED
