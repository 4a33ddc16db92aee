"""The cost model, and what it learns from earlier runs before the first trial of this one."""

import time
from collections.abc import Collection

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

from targets import TargetInfo
from tuning.records.database import best_seconds
from tuning.searching.nest import find_nest
from tuning.searching.space import own_candidate, tune_context

Lesson = tuple[ms.TuneContext, list[MeasureCandidate], list[RunnerResult]]

_WARM_UP_TRIALS = 32
_PATIENCE = 20
_NEVER_TRAIN = 1 << 40
_MOST_WORKLOADS = 24
_MOST_RECORDS = 8
_MOST_SECONDS = 5.0


def cost_model(target: TargetInfo) -> ms.CostModel:
    """Return the cost model that all tasks of a network share; it guesses until it knows some trials.

    One thread trains it: there are so few samples that several spend their time waiting for each other.
    """
    return ms.cost_model.XGBModel(
        num_warmup_samples=_WARM_UP_TRIALS, early_stopping_rounds=_PATIENCE, num_tuning_cores=1
    )


def lesson_of(
    context: ms.TuneContext, records: Collection[ms.database.TuningRecord], most: int
) -> Lesson | None:
    """Return what the best of one function's records teach; None if they teach nothing."""
    timed = [(best_seconds(record.run_secs), record) for record in records]
    timed = sorted((each for each in timed if each[0] is not None), key=lambda each: each[0])[:most]
    known = [(own_candidate(record), RunnerResult(record.run_secs, None)) for _, record in timed]
    known = [(candidate, result) for candidate, result in known if candidate is not None]
    return (context, *map(list, zip(*known, strict=True))) if known else None


def lessons_of(
    database: ms.database.Database,
    target: TargetInfo,
    known_workloads: Collection[ms.database.Workload],
    seconds: float = _MOST_SECONDS,
) -> list[Lesson]:
    """Return what the records of other networks' convolutions and matrix products teach, newest first.

    Parameters
    ----------
    database : Database
        Of the target's records.
    target : TargetInfo
        What they were measured for.
    known_workloads : collection of Workload
        Those of this network; their lessons are made by their searches.
    seconds : float
        No lesson is begun after so many seconds.
    """
    deadline = time.monotonic() + seconds
    known = set(known_workloads)
    records: dict[ms.database.Workload, list[ms.database.TuningRecord]] = {}
    for record in database.get_all_tuning_records():
        if record.workload not in known:
            records.setdefault(record.workload, []).append(record)
    lessons: list[Lesson] = []
    for workload, own in reversed(records.items()):
        if len(lessons) == _MOST_WORKLOADS or time.monotonic() > deadline:
            break
        if _is_heavy(workload):
            context = tune_context(workload.mod, target.target(), heavy=True)
            lessons.append(lesson_of(context, own, _MOST_RECORDS))
    return [lesson for lesson in lessons if lesson is not None]


def teach(model: ms.CostModel, lessons: list[Lesson]) -> None:
    """Give the cost model what earlier runs measured; it trains once, on all of it, not after each lesson."""
    for place, lesson in enumerate(lessons, start=1):
        model.last_train_size = 0 if place == len(lessons) else _NEVER_TRAIN
        model.update(*lesson)


def _is_heavy(workload: ms.database.Workload) -> bool:
    nest = find_nest(Schedule(workload.mod, debug_mask="none"))
    return nest is not None and nest.channels is not None
