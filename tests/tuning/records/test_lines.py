"""Lines of JSON: strict, whole, and never glued together."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning.records import lines

TEXTS = st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=("Cs",)))


@settings(deadline=None)
@given(written=st.lists(TEXTS.filter(lambda text: not text.startswith("\ufeff"))))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[str]) -> None:
    path = tmp_path_factory.mktemp("lines") / "datei mit lücken"
    lines.write(path, written)
    assert lines.read(path) == written
    assert lines.holds(path, written)
    assert lines.is_ended(path)


@settings(deadline=None)
@given(complete=st.lists(TEXTS), cut=TEXTS.filter(bool))
def test_a_line_after_a_cut_one_is_a_line_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, complete: list[str], cut: str
) -> None:
    path = tmp_path_factory.mktemp("lines") / "file"
    lines.write(path, complete)
    with open(path, "ab") as file:
        file.write(cut.encode())
    lines.append(path, "next")
    assert path.read_bytes().decode().split("\n")[-3:] == [cut, "next", ""]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "{", "", "[" * 100_000])
def test_what_is_no_strict_json_is_nothing(text: str) -> None:
    assert lines.parse(text) is None


@settings(deadline=None)
@given(value=st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_what_is_dumped_is_one_line_and_is_parsed(value: object) -> None:
    assert "\n" not in lines.dump(value)
    assert lines.parse(lines.dump(value)) == value == json.loads(lines.dump(value))


def test_only_missing_lines_are_added_and_no_file_is_made_for_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    lines.add_missing(path, [])
    assert not path.exists()
    lines.add_missing(path, ["a", "a"])
    lines.add_missing(path, ["b", "a"])
    assert lines.read(path) == ["a", "b"]
