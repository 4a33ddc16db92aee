"""Databases with records of real candidates and made-up times."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tvm
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
from tuning.lowering.choice import forms
from tuning.prepare import prepare
from tuning.records import database as db
from tuning.searching.search import Search, cost_model

Fill = Callable[[Path, tvm.IRModule, int], dict[str, list[ms.database.TuningRecord]]]

LAYOUTS, ROUNDS = 3, 12


def layout_of(candidate: MeasureCandidate) -> str:
    return str(candidate.args_info[1:2])


def unlike_first(candidates: list[MeasureCandidate]) -> list[MeasureCandidate]:
    """Put the first candidate of each layout of the weights in front."""
    layouts = [layout_of(each) for each in candidates]
    repeated = [layout in layouts[:place] for place, layout in enumerate(layouts)]
    return [each for _, each in sorted(zip(repeated, candidates, strict=True), key=lambda pair: pair[0])]


def candidates_of(search: Search, size: int, rounds: int) -> list[MeasureCandidate]:
    """Search until some layouts differ, in so many rounds at most."""
    found: dict[str, MeasureCandidate] = {}
    for _ in range(rounds):
        found |= {db.trace_key(each.sch.trace): each for each in search.candidates(size, set(found))}
        if len({layout_of(each) for each in found.values()}) >= LAYOUTS:
            break
    return unlike_first(list(found.values()))[:size]


@pytest.fixture(scope="session")
def fill(host: targets.TargetInfo) -> Fill:
    """Write up to so many records of a network's convolutions, and one of each other task.

    They take 1 ms, 2 ms and so on. Returns the records by the names of their tasks, the best first; those in
    front differ in their layouts.
    """

    def filled(base: Path, module: tvm.IRModule, size: int) -> dict[str, list[ms.database.TuningRecord]]:
        target = host.target()
        tasks = ms.relax_integration.extract_tasks(
            prepare(forms(module, target)[0].module, target), target, module_equality=db.MODULE_EQUALITY
        )
        records = {}
        with db.writable(base, target) as (database, _):
            for task in tasks:
                workload = database.commit_workload(task.dispatched[0])
                heavy = "conv" in task.task_name
                search = Search(task.dispatched[0], host, 1, heavy, database, cost_model(host))
                found = candidates_of(search, size if heavy else 1, ROUNDS if heavy else 1)
                records[task.task_name] = [
                    ms.database.TuningRecord(
                        each.sch.trace, workload, [0.001 * place], target, each.args_info
                    )
                    for place, each in enumerate(found, start=1)
                ]
                for record in records[task.task_name]:
                    database.commit_tuning_record(record)
        return records

    return filled
