"""A few trials beside many: what the figures are, and a convolution that is tuned twice."""

from pathlib import Path

import few_trials
from few_trials import summary
from single_convolutions import Convolution

import targets

SMALL = Convolution((1, 8, 12, 12), (16, 8, 3, 3), (1, 16, 12, 12), (1, 1), (1, 1, 1, 1), (1, 1), 1, True)


def test_a_share_is_of_the_rate_after_many_trials() -> None:
    rows = [{"gflops_few": 50.0, "gflops_many": 100.0}, {"gflops_few": 200.0, "gflops_many": 100.0}]
    found = summary(rows)
    assert (found["share"], found["smallest_share"]) == (1.0, 0.5)


def test_a_convolution_is_tuned_on(tmp_path: Path) -> None:
    row = few_trials._row(SMALL, 1, 2, targets.find("host"), tmp_path)
    assert row["convolution"] == "8x12x12 -> 16, 3x3/1"
    assert 0 < row["seconds_few"] <= row["seconds_many"]
    assert min(row["gflops_few"], row["gflops_many"]) > 0
