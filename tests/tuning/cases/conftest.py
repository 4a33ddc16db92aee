"""Databases with records of real candidates and made-up times."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tvm
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
from tuning.prepare import prepare
from tuning.records import database as db
from tuning.searching.search import Search, cost_model

Fill = Callable[[Path, tvm.IRModule, int], dict[str, list[ms.database.TuningRecord]]]


def unlike_first(candidates: list[MeasureCandidate]) -> list[MeasureCandidate]:
    """Put the first candidate of each layout in front."""
    layouts = [str(each.args_info) for each in candidates]
    repeated = [layout in layouts[:place] for place, layout in enumerate(layouts)]
    return [each for _, each in sorted(zip(repeated, candidates, strict=True), key=lambda pair: pair[0])]


@pytest.fixture(scope="session")
def fill(host: targets.TargetInfo) -> Fill:
    """Write up to so many records of a network's convolutions, and one of each other task.

    They take 1 ms, 2 ms and so on. Returns the records by the names of their tasks, the best first; those in
    front differ in their layouts.
    """

    def filled(base: Path, module: tvm.IRModule, size: int) -> dict[str, list[ms.database.TuningRecord]]:
        target = host.target()
        tasks = ms.relax_integration.extract_tasks(
            prepare(module, target), target, module_equality=db.MODULE_EQUALITY
        )
        records = {}
        with db.writable(base, target) as (database, _):
            for task in tasks:
                workload = database.commit_workload(task.dispatched[0])
                heavy = "conv" in task.task_name
                search = Search(task.dispatched[0], host, 1, heavy, database, cost_model(host))
                found = search.candidates(size if heavy else 1, set())
                records[task.task_name] = [
                    ms.database.TuningRecord(
                        each.sch.trace, workload, [0.001 * place], target, each.args_info
                    )
                    for place, each in enumerate(unlike_first(found), start=1)
                ]
                for record in records[task.task_name]:
                    database.commit_tuning_record(record)
        return records

    return filled
