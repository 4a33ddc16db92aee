"""What was found for one network serves the next."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.records.database import trace_key
from tuning.searching.lessons import cost_model, lessons_of, teach
from tuning.searching.plain import plain_schedules
from tuning.searching.processor import processor_of
from tuning.searching.search import Search
from tuning.searching.space import replay, tune_context
from tuning.searching.transfer import Experience, nearest_tiles


@given(
    extent=st.integers(1, 5000),
    wished=st.lists(st.integers(1, 64), min_size=1, max_size=4),
    largest=st.integers(1, 64),
)
def test_tiles_are_factors(extent: int, wished: list[int], largest: int) -> None:
    found = nearest_tiles(extent, wished, largest)
    assert len(found) == len(wished)
    assert math.prod(found) == extent
    assert len(found) == 1 or found[-1] <= largest


@given(wished=st.lists(st.integers(1, 16), min_size=1, max_size=4))
def test_tiles_that_fit_are_kept(wished: list[int]) -> None:
    assert nearest_tiles(math.prod(wished), wished, 64) == wished


def record(
    database: ms.database.Database, task: IRModule, candidate, seconds: float, host: targets.TargetInfo
) -> None:
    workload = database.commit_workload(task)
    trace, infos = candidate.sch.trace, candidate.args_info
    database.commit_tuning_record(ms.database.TuningRecord(trace, workload, [seconds], host.target(), infos))


def decisions(candidate) -> list[list[int]]:
    trace = candidate.sch.trace
    made = [trace.get_decision(each) for each in trace.insts if each.kind.name == "SamplePerfectTile"]
    return [[int(factor) for factor in each] for each in made]


@pytest.fixture(scope="module")
def first_network(convolution, host: targets.TargetInfo) -> tuple[ms.database.Database, list]:
    """A database after the first network: one convolution, an evolved schedule the best of it."""
    task = convolution(inputs=32, outputs=64, height=28, width=28).task(host.target())
    database = ms.database.MemoryDatabase("ignore-tensor")
    search = Search(task, host, 1, True, database, cost_model(host))
    found = search.candidates(12, set())
    for place, each in enumerate(reversed(found)):
        record(database, task, each, 1e-3 * (1 + place), host)
    return database, found


def test_the_best_schedule_of_a_function_alike_is_among_the_first(
    first_network, convolution, computed, host: targets.TargetInfo
) -> None:
    database, found = first_network
    case = convolution(inputs=24, outputs=48, height=14, width=14)
    task = case.task(host.target())
    arguments = (task, host, 1, True, database, cost_model(host))
    with_it = Search(*arguments, Experience.of(database)).candidates(4, set())
    without = Search(*arguments).candidates(4, set())
    keys = {trace_key(each.sch.trace) for each in without}
    (moved,) = [each for each in with_it if trace_key(each.sch.trace) not in keys]
    assert with_it.index(moved) <= 1
    best = [inner[-1] for inner in decisions(found[-1])]
    assert len(decisions(moved)) == len(best)
    extents = [math.prod(each) for each in decisions(moved)]
    assert all(
        inner[-1] == wish
        for inner, wish, extent in zip(decisions(moved), best, extents, strict=True)
        if extent % wish == 0
    )
    wanted = case.in_torch(case.values())
    got = computed(moved.sch.mod, case.values(), wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_functions_of_another_kind_and_the_same_function_are_not_alike(
    first_network, convolution, host: targets.TargetInfo
) -> None:
    experience = Experience.of(first_network[0])
    same = convolution(inputs=32, outputs=64, height=28, width=28)
    grouped = convolution(inputs=32, outputs=64, groups=4)
    bare = convolution(inputs=32, outputs=64, relu=False)
    for other in (same, grouped, bare):
        assert experience.records_like(other.task(host.target()), 4) == []
    assert len(experience.records_like(convolution().task(host.target()), 4)) == 1


def test_the_nearest_comes_first(convolution, host: targets.TargetInfo) -> None:
    database = ms.database.MemoryDatabase("ignore-tensor")
    for outputs in (16, 64, 128):
        task = convolution(outputs=outputs).task(host.target())
        search = Search(task, host, 1, True, database, cost_model(host))
        record(database, task, search.candidates(1, set())[0], 1e-3, host)
    near = Experience.of(database).records_like(convolution(outputs=96).task(host.target()), 2)
    assert [int(each.args_info[-1].shape[1]) for each in near] == [128, 64]


def test_failed_trials_are_no_experience(first_network, convolution, host: targets.TargetInfo) -> None:
    database = ms.database.MemoryDatabase("ignore-tensor")
    task = convolution(inputs=32, outputs=64, height=28, width=28).task(host.target())
    record(database, task, first_network[1][0], 1e10, host)
    assert Experience.of(database).known == {}


def test_lessons_are_of_other_networks_only(first_network, convolution, host: targets.TargetInfo) -> None:
    database, found = first_network
    (lesson,) = lessons_of(database, host, [])
    assert 4 <= len(lesson[1]) <= len(found)
    assert lessons_of(database, host, [database.get_all_tuning_records()[0].workload]) == []
    assert lessons_of(database, host, [], seconds=0.0) == []


def test_the_cost_model_knows_before_the_first_trial(convolution, host: targets.TargetInfo) -> None:
    """Plain schedules with vectors of columns were slow in four networks; so they are in the fifth."""
    database = ms.database.MemoryDatabase("ignore-tensor")
    cases = [convolution(inputs=8 * n, outputs=32 * n, height=14, width=28) for n in (1, 2, 3, 4, 5)]
    tasks = [case.task(host.target()) for case in cases]
    found = [
        [replay(task, each.trace, tune_context(task, host.target(), heavy=True)) for each in schedules]
        for task in tasks
        for schedules in [plain_schedules(task, processor_of(host.target()), 4)]
    ]
    assert [len(each) for each in found] == [4] * 5
    for task, candidates in zip(tasks[:4], found[:4], strict=True):
        for candidate, seconds in zip(candidates, (1e-4, 1e-4, 1e-4, 1e-2), strict=True):
            record(database, task, candidate, seconds, host)
    model = ms.cost_model.XGBModel(num_warmup_samples=1, num_tuning_cores=1)
    teach(model, lessons_of(database, host, []))
    scores = model.predict(tune_context(tasks[4], host.target(), heavy=True), found[4])
    assert min(scores[:3]) > scores[3]


def test_nothing_is_learnt_from_an_empty_database(host: targets.TargetInfo) -> None:
    database = ms.database.MemoryDatabase()
    assert lessons_of(database, host, []) == []
    assert Experience.of(database).known == {}
