"""The table of targets: finding a row, and refusing a name that is none."""

import pytest

import targets
from targets import llvm


def test_host_is_known() -> None:
    info = targets.find("host")
    assert info in targets.all_targets()
    assert info.device_type == "cpu"
    assert not info.emulated


def test_unknown_name_is_refused_in_one_line_with_what_is_near_or_known() -> None:
    for name, told in (("hots", "did you mean host? `"), ("a board", "known are host, raspberry-pi-3, ")):
        with pytest.raises(targets.TargetError) as error:
            targets.find(name)
        assert str(error.value).startswith(f"unknown target {name!r}: {told}")
        assert "\n" not in str(error.value)


PROCESSORS = [row for row in targets.all_targets() if row.gpu is None and row.name != "host"]


@pytest.mark.parametrize("row", PROCESSORS, ids=lambda row: row.name)
def test_a_rows_features_are_those_that_llvm_gives_its_core(row: targets.TargetInfo) -> None:
    listed = llvm.features(row.triple, row.cpu) & {"neon", "dotprod", "fullfp16"}
    assert set(row.features) == listed
    assert "mattr" not in row.target().export()


def test_a_board_tells_its_own_name_and_cores_and_not_this_machines() -> None:
    for row in PROCESSORS:
        assert row.measured_on() == row.description
        assert row.threads == row.cores


def test_names_are_unique() -> None:
    names = [row.name for row in targets.all_targets()]
    assert len(set(names)) == len(names)
