"""The tasks of a network, each with its search and what the database knows of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import tvm
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

from targets import TargetInfo
from tuning.errors import TuningError
from tuning.first_schedules import is_heavy
from tuning.lowering.choice import HANDICAP, forms, rivals
from tuning.lowering.network import Lowered
from tuning.memory.concatenation import is_concatenation
from tuning.prepare import prepare
from tuning.progress import TaskProgress
from tuning.records import database as db
from tuning.records.verdicts import Verdicts
from tuning.searching.budget import TaskState
from tuning.searching.search import Search
from tuning.searching.transfer import Experience
from tuning.starting import read as starting_records


@dataclass
class Task:
    """A function that the network calls.

    Attributes
    ----------
    name : str
        The TIR function's name.
    search : Search
    workload : Workload
        Its function as the database knows it.
    state : TaskState
        What the choice of the next round is made from.
    failed : int
        Trials without a time, those of earlier runs included.
    known : set of str
        Keys of the schedules that are not to be measured: measured, under way, or banned.
    recalled : list of TuningRecord
        Its records of earlier runs.
    """

    name: str
    search: Search
    workload: ms.database.Workload
    state: TaskState
    failed: int = 0
    known: set[str] = field(default_factory=set)
    recalled: list[ms.database.TuningRecord] = field(default_factory=list)

    def begin(self, candidates: Sequence[MeasureCandidate]) -> None:
        """Take note of trials that are under way from now on."""
        self.known |= {db.trace_key(each.sch.trace) for each in candidates}
        self.state.pending += len(candidates)

    def end(self, seconds: float | None) -> None:
        """Take in the time of a trial that was under way; None if it failed."""
        self.state.pending -= 1
        self._note(seconds)

    def recall(self, record: ms.database.TuningRecord) -> None:
        """Take in a trial of an earlier run."""
        self.recalled.append(record)
        self.known.add(db.trace_key(record.trace))
        self._note(db.best_seconds(record.run_secs))

    def progress(self) -> TaskProgress:
        """Return what is shown of it."""
        state, best = self.state, self.state.best_seconds
        return TaskProgress(
            name=self.name,
            weight=state.calls,
            flop=state.flop,
            trials=state.trials,
            failed=self.failed,
            best_us=None if best is None else best * 1e6,
            stopped=state.exhausted or state.stopped or state.beaten,
        )

    def _note(self, seconds: float | None) -> None:
        self.state.note(seconds)
        self.failed += seconds is None


def tasks_of(
    module: IRModule,
    target: TargetInfo,
    database: ms.database.Database,
    verdicts: Verdicts,
    model: ms.CostModel,
    seed: int,
    exact_math: bool = False,
) -> list[Task]:
    """Extract the tasks of a network and tell each what the database knows of it.

    Where a layer can be computed in two ways, each is a task, and they are rivals.

    Raises
    ------
    TuningError
        If the network calls no functions.
    """
    tvm_target = target.target()
    both = forms(module, tvm_target, exact_math)
    extracted: dict[ms.database.Workload, ms.ExtractedTask] = {}
    for each in _extracted(both, tvm_target):
        extracted.setdefault(database.commit_workload(each.dispatched[0]), each)
    if not extracted:
        raise TuningError("the network has nothing to tune: it calls no functions")
    seeds = ms.utils.fork_seed(seed, len(extracted))
    experience = Experience.of(database, starting_records(tvm_target))
    tasks = []
    for (workload, each), own in zip(extracted.items(), seeds, strict=True):
        name, function = each.task_name, each.dispatched[0]
        heavy = is_heavy(name)
        state = TaskState(int(each.weight), float(estimate_tir_flops(function)), heavy)
        search = Search(function, target, own, heavy, database, model, experience)
        tasks.append(Task(name, search, workload, state, known=set(verdicts.banned(workload))))
    _pair(tasks, rivals(both, tvm_target).values(), database)
    _recall(tasks, database)
    return tasks


def _extracted(both: Sequence[Lowered], target: tvm.target.Target) -> Iterator[ms.ExtractedTask]:
    """Yield what the forms of a network call; what they share comes again.

    A processor's concatenations are left out: they are written in place.
    """
    for form in both:
        tasks = ms.relax_integration.extract_tasks(
            prepare(form.module, target), target, module_equality=db.MODULE_EQUALITY
        )
        in_place = target.kind.name == "llvm"
        yield from (each for each in tasks if not (in_place and is_concatenation(each.dispatched[0]["main"])))


def _pair(
    tasks: list[Task], pairs: Iterable[tuple[IRModule, IRModule]], database: ms.database.Database
) -> None:
    """Make rivals of the direct task and the other of a layer; both count the direct one's operations."""
    states = {task.workload: task.state for task in tasks}
    for pair in pairs:
        one, other = (states[database.commit_workload(each)] for each in pair)
        one.rival, other.rival = other, one
        other.flop, other.handicap = one.flop, HANDICAP


def _recall(tasks: list[Task], database: ms.database.Database) -> None:
    by_workload = {task.workload: task for task in tasks}
    for record in database.get_all_tuning_records():
        task = by_workload.get(record.workload)
        if task is not None:
            task.recall(record)
