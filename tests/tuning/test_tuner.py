"""Tuning: every task a trial, nothing measured twice, interrupted and resumed."""

from pathlib import Path

import pytest

import targets
import tuning
from tuning.records import database as db

TRIALS = 12


def keys(base: Path, host: targets.TargetInfo) -> list[tuple[str, str]]:
    """What was measured: the workload and the trace of each record."""
    with db.readable(base, host.target()) as (database, cleaning):
        assert cleaning == db.Cleaning()
        records = database.get_all_tuning_records()
        return [(str(record.workload.mod), db.trace_key(record.trace)) for record in records]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dätenbank mit Lücken")


@pytest.fixture(scope="module")
def interrupted(base: Path, net, host: targets.TargetInfo, session: tuning.LocalSession) -> list[int]:
    """Tune until Ctrl-C comes in the third trial; return the trials done as they were told."""
    told: list[int] = []

    def until_third(progress: tuning.TuningProgress) -> None:
        told.append(progress.trials_done)
        if progress.trials_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuning.tune(net.module, host, session, base, TRIALS, on_progress=until_third)
    return told


@pytest.fixture(scope="module")
def resumed(
    interrupted: list[int], base: Path, net, host: targets.TargetInfo, session: tuning.LocalSession
) -> tuple[tuning.TuningResult, list[tuning.TuningProgress]]:
    told: list[tuning.TuningProgress] = []
    return tuning.tune(net.module, host, session, base, TRIALS, on_progress=told.append), told


def test_ctrl_c_keeps_what_was_measured(interrupted: list[int]) -> None:
    assert interrupted == [1, 2, 3]


def test_resuming_measures_the_rest_and_nothing_twice(resumed, base: Path, host: targets.TargetInfo) -> None:
    result, _ = resumed
    assert (result.trials_reused, result.trials_measured) == (3, TRIALS - 3)
    measured = keys(base, host)
    assert len(measured) == len(set(measured)) == TRIALS


def test_every_task_has_a_trial_and_a_time(resumed) -> None:
    result, _ = resumed
    assert any("conv2d" in task.name for task in result.tasks)
    assert all(task.trials >= 1 for task in result.tasks)
    assert all(task.best_us > 0 for task in result.tasks)
    assert sum(task.trials for task in result.tasks) == TRIALS
    assert result.failures == {}


def test_progress_counts_up_to_the_end(resumed) -> None:
    result, told = resumed
    assert [each.trials_done for each in told] == list(range(4, TRIALS + 1))
    assert {each.trials_total for each in told} == {TRIALS}
    assert {each.tasks_total for each in told} == {len(result.tasks)}
    best = sum(task.weight * task.best_us for task in result.tasks) / 1e3
    assert told[-1].best_ms == pytest.approx(best)
    assert told[0].seconds_left is None
    assert told[-1].seconds_left == 0


def test_a_full_database_is_taken_as_it_is(resumed, base: Path, net, host: targets.TargetInfo) -> None:
    nobody = tuning.RemoteSession("127.0.0.1", 1, "nobody", threads=1)
    again = tuning.tune(net.module, host, nobody, base, TRIALS)
    assert (again.trials_reused, again.trials_measured) == (TRIALS, 0)
    assert again.tasks == resumed[0].tasks


def test_a_key_nobody_serves_is_told_before_anything_is_built(
    tmp_path: Path, net, host: targets.TargetInfo, session: tuning.LocalSession
) -> None:
    config = session.rpc_config
    remote = tuning.RemoteSession(config.host, config.port, "phone", threads=1)
    with pytest.raises(tuning.TuningError, match="no device serves the key 'phone'"):
        tuning.tune(net.module, host, remote, tmp_path, TRIALS)
