"""Profiles from files, and shares of time in an inspection."""

from pathlib import Path

import pytest

from pipeline import inspect
from pipeline.errors import UserError
from pipeline.merging import Profile, read_profile
from relay_passes import ESTIMATED


def test_shares_come_from_the_profile(small_onnx: Path, tmp_path: Path):
    path = tmp_path / "profile.json"
    path.write_text(
        '{"measured_on": "a phone", "milliseconds": {"stem": 6, "pool": 3, "head": 1, "gone": 9}}'
    )
    inspection = inspect(small_onnx, profile=read_profile(path))
    assert inspection.plan.time_from == "a phone"
    assert [each.time_share for each in inspection.plan.candidates] == pytest.approx([0.6, 0.9])


def test_without_one_they_are_estimated(small_onnx: Path):
    inspection = inspect(small_onnx)
    assert inspection.plan.time_from == ESTIMATED
    assert all(0 < each.time_share < 1 for each in inspection.plan.candidates)


def test_a_profile_of_another_network(small_onnx: Path):
    with pytest.raises(UserError, match="it has 'conv1', and none"):
        inspect(small_onnx, profile=Profile(measured_on="a phone", milliseconds={"conv1": 1.0}))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"measured_on": "", "milliseconds": {"a": 1}}',
        '{"measured_on": "x", "milliseconds": {"a": -1}}',
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, text: str):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a profile"):
        read_profile(path)
