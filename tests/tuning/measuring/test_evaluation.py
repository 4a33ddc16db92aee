"""Taking run times, from a timer whose runs take given times."""

import itertools
from collections.abc import Iterable

from tuning.measuring.evaluation import evaluate
from tuning.measuring.limits import Limits

LIMITS = Limits()


class Timer:
    """A timer that gives the times it was made with and keeps what it was asked for."""

    def __init__(self, times: Iterable[float]) -> None:
        self.times = iter(times)
        self.asked: list[tuple[int, int]] = []

    def __call__(self, number: int, repeat: int) -> list[float]:
        self.asked.append((number, repeat))
        return list(itertools.islice(self.times, repeat))


def test_a_steady_candidate_takes_three_repeats_of_ten_milliseconds() -> None:
    timer = Timer(itertools.repeat(0.001))
    evaluation = evaluate(timer, LIMITS, 15.0)
    assert timer.asked == [(1, 1), (10, 3)]
    assert evaluation.seconds == (0.001,) * 3
    assert (evaluation.outliers, evaluation.steady, evaluation.valid) == (0, True, True)


def test_the_first_run_counts_if_it_is_long_enough_alone() -> None:
    timer = Timer([0.5, 0.5, 0.5])
    evaluation = evaluate(timer, LIMITS, 15.0)
    assert timer.asked == [(1, 1), (1, 2)]
    assert evaluation.seconds == (0.5,) * 3


def test_an_outlier_is_left_out_and_counted() -> None:
    evaluation = evaluate(Timer([0.02, 0.02, 0.09, 0.02, 0.02, 0.02]), LIMITS, 15.0)
    assert evaluation.seconds == (0.02,) * 5
    assert (evaluation.outliers, evaluation.steady) == (1, True)


def test_times_that_never_agree_end_with_the_budget_of_repeats() -> None:
    evaluation = evaluate(Timer(itertools.cycle([0.02, 0.025, 0.03])), LIMITS, 15.0)
    assert len(evaluation.seconds) + evaluation.outliers == LIMITS.most_repeats
    assert not evaluation.steady


def test_a_hopeless_candidate_is_run_as_little_as_possible() -> None:
    timer = Timer(itertools.repeat(0.5))
    evaluation = evaluate(timer, LIMITS, 15.0, best=0.1)
    assert timer.asked == [(1, 1)]
    assert (evaluation.seconds, evaluation.steady) == ((0.5,), False)


def test_no_repeat_is_begun_that_would_outlive_the_session() -> None:
    timer = Timer(itertools.repeat(4.0))
    evaluation = evaluate(timer, LIMITS, 7.0)
    assert timer.asked == [(1, 1)]
    assert (evaluation.seconds, evaluation.steady) == ((4.0,), False)


def test_a_time_of_zero_ends_it_and_is_not_valid() -> None:
    for times in ([0.0], [-1.0], [float("nan")], [0.001, 0.001, 0.0, 0.001], [0.02, 0.02, float("inf")]):
        assert not evaluate(Timer(times), LIMITS, 15.0).valid
