"""When a device is looked after, and what its reference's times tell, on a clock that the test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.measuring.throttling import Finding, Level, Pace, after_check, is_due, rest_seconds

PACE = Pace(trials=10, seconds=60.0, rest_seconds=5.0, patience_seconds=20.0)
FRESH = Level(1.0, checked_at=100.0)


def test_the_reference_is_due_after_trials_or_seconds() -> None:
    level = FRESH
    assert not is_due(level, PACE, 1000.0)
    for _ in range(PACE.trials):
        assert not is_due(level, PACE, 101.0)
        level = level.after_trial()
    assert is_due(level, PACE, 101.0)
    assert not is_due(FRESH.after_trial(), PACE, 159.0)
    assert is_due(FRESH.after_trial(), PACE, 160.0)


@pytest.mark.parametrize(("seconds", "finding"), [(1.14, Finding.STEADY), (1.16, Finding.THROTTLING)])
def test_fifteen_percent_slower_is_throttling(seconds: float, finding: Finding) -> None:
    level, found = after_check(FRESH, PACE, seconds, 200.0)
    assert found is finding
    assert level.hot == (finding is Finding.THROTTLING)
    assert level.seconds == 1.0


def test_a_hot_device_rests_until_it_is_back_within_ten_percent() -> None:
    level, _ = after_check(FRESH, PACE, 1.5, 200.0)
    assert is_due(level, PACE, 200.0)
    assert rest_seconds(level, PACE, 202.0) == 3.0
    level, found = after_check(level, PACE, 1.12, 205.0)
    assert (found, level.hot) == (Finding.STILL_HOT, True)
    level, found = after_check(level, PACE, 1.09, 210.0)
    assert (found, level.hot, level.seconds) == (Finding.COOLED_DOWN, False, 1.0)
    assert rest_seconds(level, PACE, 210.0) == 0.0


def test_patience_ends_with_a_new_level() -> None:
    level, _ = after_check(FRESH, PACE, 1.5, 200.0)
    level, found = after_check(level, PACE, 1.4, 219.0)
    assert found is Finding.STILL_HOT
    level, found = after_check(level, PACE, 1.4, 220.0)
    assert (found, level) == (Finding.NEW_LEVEL, Level(1.4, 220.0))
    assert after_check(level, PACE, 1.5, 300.0)[1] is Finding.STEADY


def test_a_device_that_got_faster_has_a_new_level() -> None:
    level, found = after_check(FRESH, PACE, 0.5, 200.0)
    assert (found, level.seconds) == (Finding.STEADY, 0.5)
    assert after_check(level, PACE, 0.6, 300.0)[1] is Finding.THROTTLING


@given(st.lists(st.tuples(st.floats(0.01, 100.0), st.floats(0.0, 30.0)), max_size=40))
def test_a_device_never_rests_for_longer_than_patience_and_one_look(
    looks: list[tuple[float, float]],
) -> None:
    level, now = FRESH, 100.0
    for seconds, passed in looks:
        now += passed
        hot_since = level.hot_since
        level, found = after_check(level, PACE, seconds, now)
        assert level.hot == (found in (Finding.THROTTLING, Finding.STILL_HOT))
        assert level.checked_at == now
        if hot_since is not None and now - hot_since >= PACE.patience_seconds:
            assert not level.hot
