"""How trials are shared among tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.searching.budget import ROUND, TaskState, next_round


def tasks_of_a_network() -> list[TaskState]:
    heavy = [TaskState(weight=1 + index % 2, flop=1e6 * (index + 1), heavy=True) for index in range(30)]
    light = [TaskState(weight=1, flop=1e4, heavy=False) for _ in range(17)]
    return [*light, *heavy]


def spend(tasks: list[TaskState], trials: int) -> None:
    left = trials
    while (choice := next_round(tasks, left)) is not None:
        index, size = choice
        assert 0 < size <= min(left, ROUND)
        left -= size
        for _ in range(size):
            task = tasks[index]
            task.note(task.flop / 1e9 * (1 + 10 / (1 + task.trials)))


@pytest.mark.parametrize("trials", [47, 48, 100, 256, 1000])
def test_every_task_gets_a_trial_and_the_budget_is_kept(trials: int) -> None:
    tasks = tasks_of_a_network()
    spend(tasks, trials)
    assert all(task.trials >= 1 for task in tasks)
    assert sum(task.trials for task in tasks) == trials


def test_convolutions_get_most() -> None:
    tasks = tasks_of_a_network()
    spend(tasks, 512)
    heavy = sum(task.trials for task in tasks if task.heavy)
    assert heavy > 0.9 * 512


def test_the_task_with_most_to_win_comes_next() -> None:
    slow = TaskState(weight=2, flop=1e6, heavy=True, trials=4, best_seconds=1e-3)
    fast = TaskState(weight=2, flop=1e6, heavy=True, trials=4, best_seconds=1e-5)
    assert next_round([fast, slow], 100) == (1, ROUND)


def test_a_task_called_often_comes_before_one_that_takes_longer() -> None:
    often = TaskState(weight=9, flop=1e6, heavy=True, trials=4, best_seconds=1e-3)
    slow = TaskState(weight=1, flop=1e6, heavy=True, trials=4, best_seconds=5e-3)
    assert next_round([slow, often], 100) == (1, ROUND)


def test_fewer_trials_than_tasks_go_to_the_heaviest() -> None:
    tasks = tasks_of_a_network()
    spend(tasks, 3)
    assert [index for index, task in enumerate(tasks) if task.trials] == [42, 44, 46]


def test_a_task_that_always_fails_does_not_take_everything() -> None:
    failing = TaskState(weight=1, flop=1e9, heavy=True)
    other = TaskState(weight=1, flop=1e6, heavy=True)
    left = 500
    while (choice := next_round([failing, other], left)) is not None:
        left -= choice[1]
        for _ in range(choice[1]):
            (failing, other)[choice[0]].note(None if choice[0] == 0 else 1e-4)
    assert failing.trials <= 3 * ROUND
    assert other.trials == 500 - failing.trials


def gain_stops(trials: int, gains: bool) -> TaskState:
    """A task after so many trials that each won a percent, or that won nothing after the first."""
    task = TaskState(weight=1, flop=1e9, heavy=True)
    for place in range(trials):
        task.note(1e-2 * 0.99 ** (place if gains else 0))
    return task


def test_a_task_that_has_stopped_gaining_gives_its_trials_away() -> None:
    stopped, gaining = gain_stops(200, gains=False), gain_stops(200, gains=True)
    assert stopped.stopped
    assert not gaining.stopped
    assert gaining.best_seconds < stopped.best_seconds
    assert next_round([stopped, gaining], 100) == (1, ROUND)


def test_when_all_have_stopped_they_go_on_in_turns() -> None:
    tasks = [gain_stops(200, gains=False) for _ in range(3)]
    chosen = []
    for _ in range(6):
        index, size = next_round(tasks, None)
        chosen.append(index)
        for _ in range(size):
            tasks[index].note(1e-2)
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]


def test_a_failed_trial_changes_no_time() -> None:
    task = TaskState(weight=1, flop=1.0, heavy=True)
    for seconds in (None, 2.0, 3.0, None, 1.0):
        task.note(seconds)
    assert (task.trials, task.best_seconds, task.gains) == (5, 1.0, [(1, 2.0), (4, 1.0)])


def test_trials_under_way_count() -> None:
    begun = TaskState(weight=1, flop=1e9, heavy=True, pending=4)
    fresh = TaskState(weight=1, flop=1e3, heavy=True)
    light = TaskState(weight=1, flop=1.0, heavy=False, trials=1, pending=7, best_seconds=1.0)
    assert next_round([begun, fresh], None)[0] == 1
    assert next_round([light], None) is None


def test_nothing_is_left_to_do() -> None:
    done = TaskState(weight=1, flop=1.0, heavy=True, trials=4, best_seconds=1.0, exhausted=True)
    light = TaskState(weight=1, flop=1.0, heavy=False, trials=8, best_seconds=1.0)
    assert next_round([done, light], 10) is None
    assert next_round([done, light], None) is None
    assert next_round([done], 0) is None
    assert next_round([], 10) is None


states = st.builds(TaskState, weight=st.integers(1, 9), flop=st.floats(0.0, 1e9), heavy=st.booleans())
outcomes = st.sampled_from([None, 1e-6, 1e-4, 1e-2])


@given(tasks=st.lists(states, min_size=1, max_size=12), left=st.integers(0, 300), data=st.data())
def test_overlapping_rounds_keep_the_budget_and_end(
    tasks: list[TaskState], left: int, data: st.DataObject
) -> None:
    """Results come before or after the next round is chosen; a search may find less than was asked for."""
    budget, under_way, rounds = left, [], 0
    while (choice := next_round(tasks, left)) is not None:
        index, size = choice
        rounds += 1
        assert 1 <= size <= min(left, ROUND)
        found = data.draw(st.sampled_from([size, size, size, size // 2]))
        tasks[index].exhausted = found == 0
        tasks[index].pending += found
        left -= found
        under_way += [index] * found
        for each in under_way[: data.draw(st.integers(0, len(under_way)))]:
            under_way.remove(each)
            tasks[each].pending -= 1
            tasks[each].note(data.draw(outcomes))
    assert rounds <= budget + len(tasks)
    assert sum(task.begun for task in tasks) == budget - left
    if budget >= len(tasks):
        assert all(task.begun or task.exhausted for task in tasks)


@given(tasks=st.lists(states, min_size=1, max_size=12), rounds=st.integers(1, 60))
def test_without_a_number_of_trials_rounds_go_on(tasks: list[TaskState], rounds: int) -> None:
    for _ in range(rounds):
        choice = next_round(tasks, None)
        if choice is None:
            assert not any(task.heavy for task in tasks)
            break
        for _ in range(choice[1]):
            tasks[choice[0]].note(1e-3)
    assert rounds < len(tasks) or all(task.trials for task in tasks)
