"""How trials are shared among tasks."""

import pytest

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
        tasks[index].trials += size
        tasks[index].best_seconds = tasks[index].flop / 1e9 * (1 + 10 / tasks[index].trials)


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


def test_fewer_trials_than_tasks_go_to_the_heaviest() -> None:
    tasks = tasks_of_a_network()
    spend(tasks, 3)
    assert [index for index, task in enumerate(tasks) if task.trials] == [42, 44, 46]


def test_a_task_that_always_fails_does_not_take_everything() -> None:
    failing = TaskState(weight=1, flop=1e9, heavy=True)
    other = TaskState(weight=1, flop=1e6, heavy=True, trials=4, best_seconds=1e-4)
    left = 500
    while (choice := next_round([failing, other], left)) is not None:
        left -= choice[1]
        (failing, other)[choice[0]].trials += choice[1]
    assert failing.trials <= 3 * ROUND


def test_nothing_is_left_to_do() -> None:
    done = TaskState(weight=1, flop=1.0, heavy=True, trials=4, best_seconds=1.0, exhausted=True)
    light = TaskState(weight=1, flop=1.0, heavy=False, trials=8, best_seconds=1.0)
    assert next_round([done, light], 10) is None
    assert next_round([done], 0) is None
