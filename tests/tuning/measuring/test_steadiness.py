"""Outliers and the stopping rule, on given times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.measuring.limits import Limits
from tuning.measuring.steadiness import is_steady, judge, repeats_wanted

LIMITS = Limits()
seconds = st.floats(1e-9, 1e3)
several = st.lists(seconds, min_size=1, max_size=20)


@given(several)
def test_what_is_left_out_lies_above_everything_that_is_kept(times: list[float]) -> None:
    judgement = judge(times)
    left_out = sorted(times)[len(judgement.kept) :]
    assert sorted(judgement.kept) + left_out == sorted(times)
    assert judgement.outliers == len(left_out)
    assert min(left_out, default=np.inf) > max(judgement.kept)
    assert min(left_out, default=np.inf) > 1.1 * np.median(times)


@given(several)
def test_at_least_half_of_the_times_are_kept(times: list[float]) -> None:
    assert 2 * len(judge(times).kept) >= len(times)


@given(several, st.sampled_from([1e-3, 0.5, 2.0, 1024.0]), st.randoms())
def test_neither_the_unit_nor_the_order_matters(times: list[float], unit: float, random) -> None:
    before = judge(times)
    shuffled = random.sample(times, len(times))
    after = judge([unit * each for each in shuffled])
    np.testing.assert_allclose(sorted(after.kept), [unit * each for each in sorted(before.kept)])
    assert after.outliers == before.outliers
    assert after.spread == pytest.approx(before.spread, abs=1e-9)


def test_outliers_are_those_of_the_modified_z_score() -> None:
    times = [10.0, 10.4, 9.6, 10.2, 9.8, 10.1, 13.0, 11.0]
    median, mad = np.median(times), np.median(np.abs(np.array(times) - np.median(times)))
    expected = [each for each in times if 0.6745 * (each - median) / mad <= 3.5]
    judgement = judge(times)
    assert expected == [10.0, 10.4, 9.6, 10.2, 9.8, 10.1, 11.0]
    assert judgement.kept == tuple(expected)
    low, middle, high = np.percentile(expected, (25, 50, 75))
    assert judgement.spread == pytest.approx((high - low) / middle)


def test_times_that_agree_by_chance_make_no_outlier_of_one_near_them() -> None:
    assert judge([1.0, 1.0, 1.0, 1.05]).outliers == 0
    assert judge([1.0, 1.0, 1.0, 1.5]).kept == (1.0, 1.0, 1.0)


@given(several, st.floats(0, 10), st.none() | seconds)
def test_the_budgets_hold(times: list[float], spent: float, best: float | None) -> None:
    wanted = repeats_wanted(times, spent, best, LIMITS)
    assert len(times) + max(wanted, 0) <= max(LIMITS.most_repeats, len(times))
    if wanted > 0:
        assert spent < LIMITS.measure_seconds
        assert not is_steady(times, LIMITS)
        assert best is None or min(times) <= 3 * best


@given(st.lists(seconds, max_size=2), st.floats(0, 1.9))
def test_there_are_three_at_least(times: list[float], spent: float) -> None:
    assert repeats_wanted(times, spent, None, LIMITS) == 3 - len(times)


@given(seconds, st.lists(st.floats(1.0, 1.02), min_size=3, max_size=12))
def test_steady_times_end_it(base: float, factors: list[float]) -> None:
    times = [base * factor for factor in factors]
    assert is_steady(times, LIMITS)
    assert repeats_wanted(times, 0.0, None, LIMITS) == 0


def test_times_that_spread_ask_for_more() -> None:
    assert repeats_wanted([1.0, 1.1, 1.2], 0.0, None, LIMITS) == 3


def test_a_hopeless_candidate_is_not_measured_further() -> None:
    assert repeats_wanted([3.1], 0.0, 1.0, LIMITS) == 0
    assert repeats_wanted([2.9], 0.0, 1.0, LIMITS) == 2
