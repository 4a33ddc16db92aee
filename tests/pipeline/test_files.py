import hashlib
import os
from pathlib import Path

import pytest

from pipeline import files
from pipeline.errors import UserError


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_sha256(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert files.sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_write_replaces_whole_files(tmp_path: Path):
    path = tmp_path / "größe 1.txt"
    files.write_text_atomic(path, "old")
    files.write_text_atomic(path, "neu ü")
    assert path.read_text(encoding="utf-8") == "neu ü"
    assert names(tmp_path) == ["größe 1.txt"]


def test_others_may_read_what_is_written(tmp_path: Path):
    path = tmp_path / "a"
    files.write_bytes_atomic(path, b"x")
    plain = tmp_path / "b"
    plain.write_bytes(b"x")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a"
    files.write_text_atomic(path, "old")

    def full(_: int):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left on device"):
        files.write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_writable_directory_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files.check_writable(tmp_path)
    files.check_writable(tmp_path / "new" / "deep er")
    monkeypatch.chdir(tmp_path)
    files.check_writable("relative")
    assert names(tmp_path) == []


def test_file_in_the_way(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="a file is in the way") as error:
            files.check_writable(place)
        assert "\n" not in str(error.value)
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_place_that_takes_no_files():
    with pytest.raises(UserError, match="cannot write to /proc/self/new"):
        files.check_writable("/proc/self/new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="permission denied"):
        files.check_writable(tmp_path / "new")


def test_no_permission_as_the_system_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(*_: object, **__: object):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(UserError, match="permission denied; choose another place"):
        files.check_writable(tmp_path / "new")
    assert names(tmp_path) == []


def test_name_too_long(tmp_path: Path):
    with pytest.raises(UserError, match="name too long"):
        files.check_writable(tmp_path / ("x" * 300))


def test_fresh_directory_appears_whole(tmp_path: Path):
    place = tmp_path / "new parent" / "bundle"
    with files.fresh_directory(place) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_text("1")
        assert not place.exists()
    assert (place / "deep" / "a").read_text() == "1"
    assert names(place.parent) == ["bundle"]


def test_fresh_directory_replaces_ours(tmp_path: Path):
    place = tmp_path / "bundle"
    for text in ("1", "2"):
        with files.fresh_directory(place) as temporary:
            (temporary / f"file{text}").write_text(text)
    assert names(place) == [".deeprebirth", "file2"]
    assert names(tmp_path) == ["bundle"]


def build_and_raise(place: Path, interruption: type[BaseException]):
    with files.fresh_directory(place) as temporary:
        (temporary / "new").touch()
        raise interruption


def build_while_another_writes(place: Path):
    with files.fresh_directory(place) as temporary:
        (temporary / "a").touch()
        place.mkdir()
        (place / "mine").touch()


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_interrupted_directory_leaves_the_old_one(tmp_path: Path, interruption: type[BaseException]):
    place = tmp_path / "bundle"
    with files.fresh_directory(place) as temporary:
        (temporary / "old").touch()
    with pytest.raises(interruption):
        build_and_raise(place, interruption)
    assert names(place) == [".deeprebirth", "old"]
    assert names(tmp_path) == ["bundle"]


def test_never_deletes_what_is_not_ours(tmp_path: Path):
    place = tmp_path / "photos"
    place.mkdir()
    (place / "holiday.jpg").touch()
    with pytest.raises(UserError, match=r"holds files that deeprebirth did not write \(holiday\.jpg\)"):
        files.check_replaceable(place)
    with pytest.raises(UserError, match="did not write"), files.fresh_directory(place):
        pytest.fail("the block is not entered")
    assert names(place) == ["holiday.jpg"]


def test_never_deletes_what_was_added_to_ours(tmp_path: Path):
    place = tmp_path / "bundle"
    with files.fresh_directory(place) as temporary:
        (temporary / "library.so").touch()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        files.check_replaceable(place)
    (place / "notes.txt").unlink()
    (place / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="link"):
        files.check_replaceable(place)


def test_a_foreign_file_that_comes_while_we_build(tmp_path: Path):
    place = tmp_path / "bundle"
    with pytest.raises(UserError, match="did not write"):
        build_while_another_writes(place)
    assert names(place) == ["mine"]
    assert names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("marker", ["", "not json", "{}", "[1, {}]"])
def test_a_damaged_marker_claims_nothing(tmp_path: Path, marker: str):
    place = tmp_path / "bundle"
    place.mkdir()
    (place / ".deeprebirth").write_text(marker)
    (place / "a").touch()
    with pytest.raises(UserError, match="did not write"):
        files.check_replaceable(place)


def test_an_empty_directory_is_taken(tmp_path: Path):
    place = tmp_path / "empty"
    place.mkdir()
    with files.fresh_directory(place) as temporary:
        (temporary / "a").touch()
    assert names(place) == [".deeprebirth", "a"]


def test_a_link_to_a_directory_stays_a_link(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk")
    with files.fresh_directory(link) as temporary:
        (temporary / "a").touch()
    assert link.is_symlink()
    assert (tmp_path / "disk" / "a").exists()


def test_the_current_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="name a directory inside it"):
        files.check_replaceable(".")


def test_a_file_is_not_replaced(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file is in the way"):
        files.check_replaceable(tmp_path / "file")
