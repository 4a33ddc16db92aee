"""Programs' binaries on disk: found again, built anew if damaged, bounded."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tvm

VARIABLE = "DEEPREBIRTH_OPENCL_CACHE"
BUILT, CACHED = (1, 0), (0, 1)
TENSOR = (3, 64, 1)
SOURCE = "__kernel void doubling(__global float* out) { out[get_global_id(0)] *= 2; }"


def made() -> np.ndarray:
    """Return how many programs were built and found so far."""
    counts = json.loads(tvm.get_global_func("deeprebirth.opencl.counts")())
    return np.array([counts["programs_built"], counts["programs_cached"]])


@pytest.fixture
def run(device, make_module) -> Callable[[], tuple[int, int]]:
    """Load kernels and run one; return how many programs were built and found for that."""

    def ran() -> tuple[int, int]:
        before = made()
        values = np.arange(100, dtype="float32")
        tensor = tvm.runtime.tensor(values, device)
        make_module(SOURCE, "doubling", [TENSOR])["doubling"](tensor, 10, 10)
        np.testing.assert_array_equal(tensor.numpy(), values * 2)
        return tuple((made() - before).tolist())

    return ran


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder; it is made when it is needed."""
    path = tmp_path / "Vorrat ä" / "hier"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_a_program_is_built_once_for_a_device_and_options(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert [run(), run(), run()] == [BUILT, CACHED, CACHED]
    assert len(list(folder.iterdir())) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("DEEPREBIRTH_OPENCL_OPTIONS", "-cl-mad-enable")
    assert [run(), run()] == [BUILT, CACHED]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut off", "flipped", "empty", "of another program"])
def test_a_damaged_file_is_built_anew(run, folder: Path, damage: str):
    run()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    damaged = {
        "cut off": whole[:-100],
        "flipped": whole[:-1000] + bytes(byte ^ 1 for byte in whole[-1000:]),
        "empty": b"",
        "of another program": whole.replace(b"__kernel", b"__korrel"),
    }[damage]
    assert damaged != whole
    file.write_bytes(damaged)
    assert [run(), run()] == [BUILT, CACHED]


def test_there_can_be_no_cache(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """PoCL keeps programs itself, so for it there is one only where a folder is given."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for off in ("off", ""):
        monkeypatch.setenv(VARIABLE, off)
        assert [run(), run()] == [BUILT, BUILT]
    monkeypatch.delenv(VARIABLE)
    assert [run(), run()] == [BUILT, BUILT]
    assert not (tmp_path / "deeprebirth").exists()


def test_a_folder_that_cannot_be_made_is_no_error(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file/cache"))
    assert [run(), run()] == [BUILT, BUILT]


def test_what_was_not_used_for_the_longest_time_makes_room(run, folder: Path):
    """Files of 100 MB with holes: two and the new one are below 256 MiB, three are not."""
    folder.mkdir(parents=True)
    for age, name in enumerate(("new", "older", "oldest")):
        path = folder / f"{name}.clbin"
        with path.open("wb") as file:
            file.truncate(100_000_000)
        os.utime(path, (1e9 - age, 1e9 - age))
    (folder / "of somebody else").touch()
    assert run() == BUILT
    left = {path.name for path in folder.iterdir()}
    assert {"new.clbin", "older.clbin", "of somebody else"} < left
    assert "oldest.clbin" not in left
    assert run() == CACHED
