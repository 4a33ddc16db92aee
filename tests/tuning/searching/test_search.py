"""The search gives new candidates each time, in whatever order the results come."""

import numpy as np
import pytest
import torch
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
from tuning.records.database import FAILED_SECONDS, trace_key
from tuning.searching.plain import plain_schedules
from tuning.searching.processor import processor_of
from tuning.searching.search import Search, cost_model


class Trials:
    """A search, and a database that takes what is measured."""

    def __init__(self, task, host: targets.TargetInfo, heavy: bool = True) -> None:
        self.task, self.host = task, host
        self.database = ms.database.MemoryDatabase("ignore-tensor")
        self.workload = self.database.commit_workload(task)
        self.model = cost_model(host)
        self.search = Search(task, host, 1, heavy, self.database, self.model)
        self.known: set[str] = set()

    def ask(self, size: int) -> list[MeasureCandidate]:
        found = self.search.candidates(size, self.known)
        keys = [trace_key(each.sch.trace) for each in found]
        assert len(set(keys)) == len(keys) <= size
        assert not self.known & set(keys)
        self.known |= set(keys)
        return found

    def tell(self, candidates: list[MeasureCandidate], seconds: float | None) -> None:
        for each in candidates:
            run_secs = [FAILED_SECONDS if seconds is None else seconds]
            trace, infos = each.sch.trace, each.args_info
            self.database.commit_tuning_record(
                ms.database.TuningRecord(trace, self.workload, run_secs, self.host.target(), infos)
            )
        result = RunnerResult(None, "crashed") if seconds is None else RunnerResult([seconds], None)
        self.search.learn(candidates, [result] * len(candidates))


@pytest.fixture
def trials(convolution, host: targets.TargetInfo) -> Trials:
    return Trials(convolution(kernel=1, padding=0).task(host.target()), host)


def test_plain_schedules_come_first(trials: Trials) -> None:
    plain = plain_schedules(trials.task, processor_of(trials.host.target()), 4)
    keys = [trace_key(each.trace.simplified(remove_postproc=True)) for each in plain]
    assert [trace_key(each.sch.trace) for each in trials.ask(2)] == keys[:2]
    assert [trace_key(each.sch.trace) for each in trials.ask(2)] == keys[2:]


def test_batches_overlap_and_results_come_late_and_in_another_order(trials: Trials) -> None:
    batches = [trials.ask(4), trials.ask(8)]
    trials.tell(batches[1], 2e-3)
    batches.append(trials.ask(8))
    trials.tell(batches[2], None)
    trials.tell(batches[0], 1e-3)
    assert [len(each) for each in batches] == [4, 8, 8]
    assert trials.ask(8)


def test_a_search_that_resumes_measures_nothing_again(trials: Trials) -> None:
    trials.tell(trials.ask(12), 1e-3)
    trials.search = Search(trials.task, trials.host, 1, True, trials.database, trials.model)
    assert len(trials.ask(12)) > 6  # evolution may find a few fewer that are new


def test_a_search_whose_trials_all_fail_goes_on(trials: Trials) -> None:
    trials.tell(trials.ask(8), None)
    assert trials.ask(4)


def test_without_weights_plain_schedules_come_after_the_small_space_and_then_it_ends(
    host: targets.TargetInfo, light_task, computed
) -> None:
    trials = Trials(light_task, host, heavy=False)
    plain = plain_schedules(light_task, processor_of(host.target()), 4)
    keys = [trace_key(each.trace.simplified(remove_postproc=True)) for each in plain]
    found = trials.ask(16)
    assert [trace_key(each.sch.trace) for each in found][-len(keys) :] == keys
    assert len(found) > len(keys) > 0
    image = np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype("float32")
    wanted = torch.nn.functional.max_pool2d(torch.from_numpy(image), 3, 2, 1).numpy()
    for each in found[0], *found[-len(keys) :]:
        np.testing.assert_array_equal(computed(each.sch.mod, [image], wanted.shape), wanted)
    assert 0 in [len(trials.ask(8)) for _ in range(32)]


def test_one_that_was_given_nothing_learns_nothing(trials: Trials) -> None:
    trials.search.learn([], [])
    assert len(trials.ask(1)) == 1
