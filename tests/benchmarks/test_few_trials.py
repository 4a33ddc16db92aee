"""A few trials beside many: what the figures are, and that each task has its trials."""

from pathlib import Path

import few_trials
from few_trials import summary

import targets
import tuning


def test_a_share_is_of_the_rate_after_many_trials() -> None:
    rows = [{"gflops_few": 50.0, "gflops_many": 100.0}, {"gflops_few": 200.0, "gflops_many": 100.0}]
    found = summary(rows)
    assert (found["share"], found["smallest_share"]) == (1.0, 0.5)


def test_budgets_are_for_each_task(monkeypatch, tmp_path: Path, host: targets.TargetInfo) -> None:
    asked = []

    class Result:
        tasks = ("direct", "winograd")
        seconds = 1.0

    def tune(module, target, session, records, budget) -> Result:
        asked.append(budget.trials)
        return Result()

    class Network:
        module = None

    monkeypatch.setattr(tuning, "tune", tune)
    assert few_trials._tune(Network, 8, 1, host, None, tmp_path) == (2, 2.0)
    assert few_trials._tune(Network, 20, 2, host, None, tmp_path) == (2, 1.0)
    assert asked == [8, 16, 40]
