"""Tuning: every task a trial, nothing measured twice, interrupted and resumed."""

from pathlib import Path

import pytest

import targets
import tuning
from tuning.progress import Line, SessionEnded, SessionStarted, Trial
from tuning.records import database as db

TRIALS = 12
BUDGET = tuning.Budget(trials=TRIALS)


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
def interrupted(base: Path, net, host: targets.TargetInfo, session: tuning.LocalSession) -> list[str]:
    """Tune until Ctrl-C comes after the third trial; return the tasks of the trials as they were told."""
    told: list[str] = []

    def until_third(line: Line) -> None:
        if isinstance(line, Trial):
            told.append(line.task)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuning.tune(net.module, host, session, base, BUDGET, log=until_third)
    return told


@pytest.fixture(scope="module")
def resumed(
    interrupted: list[str], base: Path, net, host: targets.TargetInfo, session: tuning.LocalSession
) -> tuple[tuning.TuningResult, list[Line]]:
    told: list[Line] = []
    return tuning.tune(net.module, host, session, base, BUDGET, log=told.append), told


def test_ctrl_c_keeps_what_was_measured(resumed) -> None:
    result, _ = resumed
    assert result.trials_reused == 3


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
    assert (result.wrong, result.uncompared) == ((), ())


def test_progress_counts_up_to_the_end(resumed) -> None:
    result, told = resumed
    shown = [line for line in told if isinstance(line, tuning.TuningProgress)]
    done = [each.trials_done for each in shown]
    assert done == sorted(done)
    assert set(done) == set(range(4, TRIALS + 1)) | {min(done)}
    assert {each.trials_total for each in shown} == {TRIALS}
    assert {tuple(task.name for task in each.tasks) for each in shown} == {
        tuple(task.name for task in result.tasks)
    }
    assert shown[-1].best_ms == pytest.approx(result.network_ms)
    assert shown[0].seconds_left is None
    assert shown[-1].seconds_left == 0


def test_the_log_holds_every_trial_between_its_first_and_last_line(resumed) -> None:
    result, told = resumed
    first, last = told[0], told[-1]
    assert isinstance(first, SessionStarted)
    assert (first.trials, first.reused, first.measured_on) == (TRIALS, 3, targets.find("host").measured_on())
    assert isinstance(last, SessionEnded)
    assert last.reason == "trials made"
    trials = [line for line in told if isinstance(line, Trial)]
    assert len(trials) == result.trials_measured
    assert all(trial.seconds and trial.cause is None for trial in trials)


def test_the_stages_of_a_session_that_shares_the_machine_do_not_overlap(resumed) -> None:
    result, _ = resumed
    assert {"search", "build", "measure", "check", "idle"} == set(result.stages)
    busy = sum(seconds for stage, seconds in result.stages.items() if stage != "idle")
    assert busy <= result.seconds


def test_the_budget_may_be_seconds(tmp_path: Path, net, host, session: tuning.LocalSession) -> None:
    told: list[Line] = []
    result = tuning.tune(net.module, host, session, tmp_path, tuning.Budget(seconds=1), log=told.append)
    assert told[-1].reason == "time spent"
    assert result.trials_measured == len([line for line in told if isinstance(line, Trial)])


@pytest.mark.parametrize(
    ("trials", "seconds", "says"), [(None, None, "an end"), (0, None, "at least"), (None, -1.0, "at least")]
)
def test_a_budget_has_an_end(trials, seconds, says) -> None:
    with pytest.raises(tuning.TuningError, match=says):
        tuning.Budget(trials, seconds)


def test_a_full_database_is_taken_as_it_is(resumed, base: Path, net, host: targets.TargetInfo) -> None:
    nobody = tuning.RemoteSession("127.0.0.1", 1, "nobody", threads=1)
    again = tuning.tune(net.module, host, nobody, base, BUDGET)
    assert (again.trials_reused, again.trials_measured) == (TRIALS, 0)
    assert again.tasks == resumed[0].tasks


def test_a_key_nobody_serves_is_told_before_anything_is_built(
    tmp_path: Path, net, host: targets.TargetInfo, session: tuning.LocalSession
) -> None:
    config = session.rpc_config
    remote = tuning.RemoteSession(config.host, config.port, "phone", threads=1)
    with pytest.raises(tuning.TuningError, match="no device serves the key 'phone'"):
        tuning.tune(net.module, host, remote, tmp_path, BUDGET)
