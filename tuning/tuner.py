"""Tunes a network: tasks, rounds of candidates, measurements on a device, a database of all of them.

The search is MetaSchedule's (design spaces, evolutionary search, cost model). The loop over tasks is ours:
every task gets a round even from a small budget, a candidate that the database holds is not measured again,
and each measurement is in the database as soon as it is made.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.meta_schedule.builder import BuilderInput
from tvm.s_tir.meta_schedule.runner import RunnerInput, RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

from targets import TargetInfo
from tuning.building.builder import CandidateBuilder
from tuning.devices.session import Session
from tuning.devices.tracker import require_device
from tuning.errors import TuningError
from tuning.interrupts import held_back
from tuning.measuring.runner import SessionRunner
from tuning.prepare import prepare
from tuning.records import database as db
from tuning.records.database import Cleaning
from tuning.searching.budget import ROUND, TaskState, next_round
from tuning.searching.search import Search, cost_model, teach

_HEAVY_OPERATORS = ("conv", "matmul", "dense")


@dataclass(frozen=True)
class TuningProgress:
    """Where tuning is, told after each trial.

    Attributes
    ----------
    task_name, task_index, tasks_total
        The task of the last trial, its position from 0, and the number of tasks.
    trials_done, trials_total : int
        Trials of this network that the database holds, and those asked for.
    best_ms : float or None
        Milliseconds of the whole network with the best schedules so far; None until every task has one.
    seconds_left : float or None
        An estimate, from the speed so far; None in the first round.
    """

    task_name: str
    task_index: int
    tasks_total: int
    trials_done: int
    trials_total: int
    best_ms: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class TaskResult:
    """What tuning found for one task.

    Attributes
    ----------
    name : str
        The TIR function's name.
    weight : int
        How often the network calls it.
    trials, failed : int
        Candidates measured, earlier runs included, and how many of them failed.
    best_us : float or None
        Microseconds of the best schedule; None if there is none.
    """

    name: str
    weight: int
    trials: int
    failed: int
    best_us: float | None


@dataclass(frozen=True)
class TuningResult:
    """What tuning did.

    Attributes
    ----------
    tasks : tuple of TaskResult
        In the order of the network's tasks.
    trials_measured, trials_reused : int
        Trials made this time, and those the database held before.
    failures : dict of str to int
        Causes of the trials that failed this time, and how many had each.
    cleaning : Cleaning
        What was left out of the database when it was read.
    seconds : float
        How long it took.
    """

    tasks: tuple[TaskResult, ...]
    trials_measured: int
    trials_reused: int
    failures: dict[str, int]
    cleaning: Cleaning
    seconds: float


@dataclass
class _Task:
    """A task, its search, and what is known of it."""

    name: str
    search: Search
    workload: ms.database.Workload
    state: TaskState
    failed: int = 0
    measured: set[str] = field(default_factory=set)
    recalled: list[ms.database.TuningRecord] = field(default_factory=list)


def tune(
    module: IRModule,
    target: TargetInfo,
    session: Session,
    database_dir: Path,
    trials: int,
    seed: int = 0,
    on_progress: Callable[[TuningProgress], None] | None = None,
) -> TuningResult:
    """Search for fast schedules of a network's functions and keep every measurement in the database.

    Ctrl-C may come at any time: what was measured is in the database, and the same call goes on from there.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main`` (NCHW, not legalised), its weights as constants in place.
    target : TargetInfo
        What to tune for.
    session : Session
        The device to measure on, entered.
    database_dir : Path
        Holds the databases of all targets; made if missing.
    trials : int
        Trials of this network in all, those that the database holds included.
    seed : int
        Seed of the search.
    on_progress : callable, optional
        Called after each trial.

    Raises
    ------
    TuningError
        If the device is gone for good, the database cannot be used or the network has nothing to tune.
    targets.TargetError
        If the target's compiler is missing.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        database, cleaning = stack.enter_context(db.writable(Path(database_dir), target.target()))
        with held_back():
            model = cost_model(target)
            tasks = _tasks(module, target, database, model, seed)
            _recall(tasks, database)
        run = _Run(tasks, target, database, trials, on_progress)
        if run.done < trials:
            stack.enter_context(run.on_device(session))
            with held_back():
                lessons = [task.search.lesson(task.recalled) for task in tasks]
                teach(model, [lesson for lesson in lessons if lesson is not None])
            run.tune()
    return run.result(cleaning, time.monotonic() - started)


def _tasks(
    module: IRModule, target: TargetInfo, database: ms.database.Database, model: ms.CostModel, seed: int
) -> list[_Task]:
    """Extract the tasks of a network, each with a search of its own."""
    tvm_target = target.target()
    extracted = ms.relax_integration.extract_tasks(
        prepare(module, tvm_target), tvm_target, module_equality=db.MODULE_EQUALITY
    )
    if not extracted:
        raise TuningError("the network has nothing to tune: it calls no functions")
    seeds = ms.utils.fork_seed(seed, len(extracted))
    return [_task(each, target, database, model, own) for each, own in zip(extracted, seeds, strict=True)]


def _task(
    extracted: ms.ExtractedTask,
    target: TargetInfo,
    database: ms.database.Database,
    model: ms.CostModel,
    seed: int,
) -> _Task:
    name, module = extracted.task_name, extracted.dispatched[0]
    heavy = any(word in name for word in _HEAVY_OPERATORS)
    state = TaskState(int(extracted.weight), float(estimate_tir_flops(module)), heavy)
    search = Search(module, target, seed, heavy, database, model)
    return _Task(name, search, database.commit_workload(module), state)


def _recall(tasks: list[_Task], database: ms.database.Database) -> None:
    """Tell each task what the database knows of it."""
    by_workload = {task.workload: task for task in tasks}
    for record in database.get_all_tuning_records():
        task = by_workload.get(record.workload)
        if task is not None:
            task.recalled.append(record)
            _note(task, db.trace_key(record.trace), db.best_seconds(record.run_secs))


def _note(task: _Task, key: str, seconds: float | None) -> None:
    task.measured.add(key)
    task.state.trials += 1
    if seconds is None:
        task.failed += 1
    else:
        task.state.best_seconds = min(seconds, task.state.best_seconds or seconds)


class _Run:
    """One call of ``tune``: rounds of trials until the budget is spent."""

    def __init__(
        self,
        tasks: list[_Task],
        target: TargetInfo,
        database: ms.database.Database,
        trials: int,
        on_progress: Callable[[TuningProgress], None] | None,
    ) -> None:
        self._tasks = tasks
        self._states = [task.state for task in tasks]
        self._target = target
        self._database = database
        self._trials = trials
        self._on_progress = on_progress or (lambda progress: None)
        self._reused = self.done
        self._failures: dict[str, int] = {}
        self._started = time.monotonic()

    @property
    def done(self) -> int:
        """Trials of this network that the database holds."""
        return sum(state.trials for state in self._states)

    @contextmanager
    def on_device(self, session: Session) -> Iterator[None]:
        """Start builder and runner, and end them."""
        require_device(session.rpc_config)
        self._builder = CandidateBuilder(self._target.require_compiler(), self._target.threads)
        self._runner = SessionRunner(session.rpc_config)
        try:
            yield
        finally:
            self._runner.close()
            self._builder.close()

    def tune(self) -> None:
        """Make rounds until the trials are made or no task has new candidates."""
        while (choice := next_round(self._states, self._trials - self.done)) is not None:
            index, size = choice
            task = self._tasks[index]
            with held_back():
                candidates = task.search.candidates(size, task.measured)
            if candidates:
                self._measure(index, candidates)
            else:
                task.state.exhausted = True

    def result(self, cleaning: Cleaning, seconds: float) -> TuningResult:
        """Sum up."""
        return TuningResult(
            tasks=tuple(_sum_up(task) for task in self._tasks),
            trials_measured=self.done - self._reused,
            trials_reused=self._reused,
            failures=dict(self._failures),
            cleaning=cleaning,
            seconds=seconds,
        )

    def _measure(self, index: int, candidates: list[MeasureCandidate]) -> None:
        """Build and measure candidates; each result is kept at once."""
        task = self._tasks[index]
        target = self._target.target()
        built = self._builder.build([BuilderInput(each.sch.mod, target) for each in candidates])
        results: list[RunnerResult] = []
        for candidate, artefact in zip(candidates, built, strict=True):
            results.append(self._run(candidate, artefact))
            with held_back():
                self._keep(task, candidate, results[-1])
            self._report(index)
        with held_back():
            task.search.learn(candidates, results)

    def _run(self, candidate: MeasureCandidate, artefact: ms.builder.BuilderResult) -> RunnerResult:
        if artefact.error_msg is not None:
            return RunnerResult(None, str(artefact.error_msg))
        runner_input = RunnerInput(artefact.artifact_path, self._target.device_type, candidate.args_info)
        try:
            return self._runner.measure(runner_input)
        finally:
            ms.utils.remove_build_dir(str(artefact.artifact_path))

    def _keep(self, task: _Task, candidate: MeasureCandidate, result: RunnerResult) -> None:
        """Write one measurement into the database; a failed one too, so that it is not made again."""
        if result.error_msg is not None:
            cause = str(result.error_msg)
            self._failures[cause] = self._failures.get(cause, 0) + 1
        run_secs = result.run_secs or [db.FAILED_SECONDS]
        trace = candidate.sch.trace
        self._database.commit_tuning_record(
            ms.database.TuningRecord(
                trace, task.workload, run_secs, self._target.target(), candidate.args_info
            )
        )
        _note(task, db.trace_key(trace), db.best_seconds(run_secs))

    def _report(self, index: int) -> None:
        self._on_progress(
            TuningProgress(
                task_name=self._tasks[index].name,
                task_index=index,
                tasks_total=len(self._tasks),
                trials_done=self.done,
                trials_total=self._trials,
                best_ms=_network_ms(self._states),
                seconds_left=self._seconds_left(),
            )
        )

    def _seconds_left(self) -> float | None:
        """From the speed so far; None as long as starting up makes up most of it."""
        measured, left = self.done - self._reused, self._trials - self.done
        if left and measured < ROUND:
            return None
        return left * (time.monotonic() - self._started) / measured


def _network_ms(states: list[TaskState]) -> float | None:
    if any(state.best_seconds is None for state in states):
        return None
    return 1e3 * sum(state.weight * state.best_seconds for state in states)


def _sum_up(task: _Task) -> TaskResult:
    best = task.state.best_seconds
    return TaskResult(
        task.name, task.state.weight, task.state.trials, task.failed, None if best is None else best * 1e6
    )
