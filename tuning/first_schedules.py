"""Gives each function of a processor's network that has no record a schedule to do without.

TVM's default is one thread and no vectors. In place of it a function gets the first of these that it lets be
made of itself: the best schedule of a function like it and of its sizes, one of other sizes whose tiles all
fit, and the schedule with which its tuning would begin. What failed or was found wrong is not taken.
"""

from collections.abc import Iterator
from contextlib import suppress

import tvm
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

from targets import TargetInfo
from tuning.records.database import MODULE_EQUALITY, best_seconds, trace_key
from tuning.records.verdicts import Verdicts, hash_of
from tuning.searching.search import Search
from tuning.searching.space import TVM_ERRORS, replay, tune_context
from tuning.searching.transfer import Experience, fitting
from tuning.starting import read as starting_records

_HEAVY_OPERATORS = ("conv", "matmul", "dense")
_ALIKE = 2
_SEED = 1


def is_heavy(name: str) -> bool:
    """Tell from a function's name whether it holds a convolution or a matrix product."""
    return any(word in name for word in _HEAVY_OPERATORS)


def without_record(
    module: IRModule, target: tvm.target.Target, database: ms.database.Database
) -> dict[str, IRModule]:
    """Return the functions for which a database has no schedule, as it would know them, by name.

    Parameters
    ----------
    module : IRModule
        A network as `prepare` gives it.
    target : tvm.target.Target
        What it will be compiled for.
    database : Database
    """
    normalize = tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")
    functions = {
        name.name_hint: normalize(function)
        for name, function in module.functions_items()
        if isinstance(function, tvm.tirx.PrimFunc)
    }
    return {
        name: function
        for name, function in functions.items()
        if database.query_tuning_record(function, target, name) is None
    }


def first_schedules(
    functions: dict[str, IRModule],
    target: TargetInfo,
    database: ms.database.Database,
    verdicts: Verdicts | None = None,
) -> ms.database.Database:
    """Return a database with a schedule for each function that has a first one.

    Parameters
    ----------
    functions : dict
        See `without_record`.
    target : TargetInfo
        A processor.
    database : Database
        Says what is known of functions like these, and what failed.
    verdicts : Verdicts, optional
        Say what is wrong.
    """
    first = ms.database.MemoryDatabase(MODULE_EQUALITY)
    if not functions:
        return first
    tvm_target = target.target()
    failed = _failed(database)
    experience = Experience.of(database, starting_records(tvm_target))
    for name, function in functions.items():
        workload = first.commit_workload(function)
        known = failed.get(hash_of(workload), set()) | (verdicts.banned(workload) if verdicts else set())
        with suppress(*TVM_ERRORS):
            candidates = _in_order(function, target, is_heavy(name), experience, known)
            candidate = next((each for each in candidates if trace_key(each.sch.trace) not in known), None)
            if candidate is not None:
                first.commit_tuning_record(
                    ms.database.TuningRecord(
                        candidate.sch.trace, workload, [1.0], tvm_target, candidate.args_info
                    )
                )
    return first


def _in_order(
    function: IRModule, target: TargetInfo, heavy: bool, experience: Experience, known: set[str]
) -> Iterator[MeasureCandidate]:
    """Yield candidates without a search: those of functions alike, then that with which tuning begins."""
    same = [(each, None) for each in experience.records_of_its_sizes(function)]
    alike = [(each, fitting) for each in experience.records_like(function, _ALIKE)]
    if same or alike:
        context = tune_context(function, target.target(), heavy)
        moved = (replay(function, each.trace, context, decide) for each, decide in (*same, *alike))
        yield from (each for each in moved if each is not None)
    nothing, model = ms.database.MemoryDatabase(MODULE_EQUALITY), ms.cost_model.RandomModel(seed=_SEED)
    search = Search(function, target, _SEED, heavy, nothing, model, plain=1 + len(known))
    yield from search.candidates(1, known)


def _failed(database: ms.database.Database) -> dict[str, set[str]]:
    """Return the keys of trials without a time, by the hashes of their functions."""
    failed: dict[ms.database.Workload, set[str]] = {}
    for record in database.get_all_tuning_records():
        if best_seconds(record.run_secs) is None:
            failed.setdefault(record.workload, set()).add(trace_key(record.trace))
    return {hash_of(workload): keys for workload, keys in failed.items()}
