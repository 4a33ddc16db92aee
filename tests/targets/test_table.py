"""The table of targets: finding a row, and refusing a name that is none."""

import pytest

import targets


def test_host_is_known() -> None:
    info = targets.find("host")
    assert info in targets.all_targets()
    assert info.device_type == "cpu"
    assert not info.emulated


def test_unknown_name_is_refused_in_one_line_with_the_known_ones() -> None:
    with pytest.raises(targets.TargetError, match=r"unknown target 'hots': known targets are host") as error:
        targets.find("hots")
    assert "did you mean host?" in str(error.value)
    assert "\n" not in str(error.value)


def test_names_are_unique() -> None:
    names = [row.name for row in targets.all_targets()]
    assert len(set(names)) == len(names)
