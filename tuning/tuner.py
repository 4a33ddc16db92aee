"""Tunes a network: tasks, rounds of candidates, measurements on devices, a database of all of them.

The search is MetaSchedule's (design spaces, evolutionary search, cost model). The loop over tasks is ours:
every task gets a round even from a small budget, a candidate that the database holds is not measured again,
each measurement is in the database as soon as it is made, and while devices measure one round, the next one
is searched and built.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

from targets import TargetInfo
from tuning.account import Account
from tuning.building.built import Builder
from tuning.building.local import LocalBuilder
from tuning.building.toolchain import check_toolchain
from tuning.confirm import confirm, unconfirmed
from tuning.devices.session import Session
from tuning.devices.tracker import require_device
from tuning.flow import Batch, Flow, Trial
from tuning.interrupts import held_back
from tuning.measuring.compare import Comparer
from tuning.measuring.peak import peak_gflops
from tuning.measuring.runner import Runner
from tuning.progress import Line
from tuning.records import database as db
from tuning.records import verdicts
from tuning.records.verdicts import Verdicts
from tuning.result import Budget, TaskResult, TuningResult
from tuning.searching.budget import next_round
from tuning.searching.lessons import cost_model, lessons_of, teach
from tuning.tasks import Task, tasks_of

_LOOK_SECONDS = 1.0


def tune(
    module: IRModule,
    target: TargetInfo,
    session: Session,
    database_dir: Path,
    budget: Budget,
    *,
    name: str = "network",
    builder: Builder | None = None,
    seed: int = 0,
    exact_math: bool = False,
    log: Callable[[Line], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> TuningResult:
    """Search for fast schedules of a network's functions and keep every measurement in the database.

    At the end the best schedule of each function is compared with the untuned function on the device; a wrong
    one is banned, and the next best taken. Ctrl-C may come at any time: what was measured is in the database,
    and the same call goes on from there.

    Parameters
    ----------
    module : IRModule
        One Relax function ``main`` (NCHW, not legalised), its weights as constants in place.
    target : TargetInfo
        What to tune for.
    session : Session
        The devices to measure on, entered.
    database_dir : Path
        Holds the databases of all targets; made if missing.
    budget : Budget
        When to end.
    name : str
        Of the network, for the log.
    builder : Builder, optional
        What builds candidates, closed by the caller; by default processes on this machine do.
    seed : int
        Seed of the search.
    exact_math : bool
        Whether convolutions are only computed directly, not by Winograd's algorithm too.
    log : callable, optional
        Given each line of the session's log, from any thread but one at a time; progress is among them.
    say : callable, optional
        Told in a line what the user should know.

    Raises
    ------
    TuningError
        If the devices are gone for good, the database or the builder cannot be used, or the network has
        nothing to tune.
    targets.TargetError
        If the target's compiler is missing.
    """
    base, tvm_target = Path(database_dir), target.target()
    with ExitStack() as stack:
        database, cleaning = stack.enter_context(db.writable(base, tvm_target))
        known = verdicts.read(db.directory(base, tvm_target))
        with held_back():
            model = cost_model(target)
            tasks = tasks_of(module, target, database, known, model, seed, exact_math)
        account = Account(tasks, target, session, budget, log, say)
        if not account.is_spent or unconfirmed(tasks, database, known):
            tuner = _Tuner(tasks, target, database, known, account)
            with account.logged(name), tuner.on(session, builder):
                if not account.is_spent:
                    tuner.learn_from_records(model)
                    tuner.tune()
                tuner.confirm()
        return _result(tasks, account, cleaning)


class _Tuner:
    """Makes rounds of trials until the budget is spent."""

    def __init__(
        self,
        tasks: list[Task],
        target: TargetInfo,
        database: ms.database.Database,
        known: Verdicts,
        account: Account,
    ) -> None:
        self._tasks, self._target, self._database = tasks, target, database
        self._verdicts, self._account = known, account

    @contextmanager
    def on(self, session: Session, builder: Builder | None) -> Iterator[None]:
        """Start what builds and measures, and end it."""
        require_device(session.rpc_config)
        check_toolchain(self._target)
        self._device = session.rpc_config, self._target.device_type
        with ExitStack() as stack:
            self._builder = builder or stack.enter_context(closing(LocalBuilder(self._target)))
            self._runner = stack.enter_context(closing(Runner(*self._device, say=self._account.note)))
            self._account.peak_gflops = peak_gflops(session, self._target, self._account.note)
            self._flow = Flow(self._builder, self._runner, self._account.stages, session.shares_machine)
            yield

    def learn_from_records(self, model: ms.CostModel) -> None:
        """Teach the cost model what earlier runs measured, of other networks too."""
        with self._account.stages.busy("search"), held_back():
            others = lessons_of(self._database, self._target, [task.workload for task in self._tasks])
            own = [task.search.lesson(task.recalled) for task in self._tasks]
            teach(model, [*others, *(lesson for lesson in own if lesson is not None)])

    def tune(self) -> None:
        """Make rounds until the budget is spent or no task has new candidates."""
        while True:
            if self._account.time_is_up:
                self._flow.drop()
            elif self._flow.wants_more and self._begin_round():
                continue
            if self._flow.under_way == 0:
                return
            trial = self._flow.next(_LOOK_SECONDS)
            if trial is not None:
                self._keep(trial)
            self._account.show(self._runner.devices())

    def confirm(self) -> None:
        """Compare the best schedules with the untuned functions."""
        with Comparer(*self._device, at_once=max(1, self._runner.slots)) as comparer:
            confirm(self._tasks, self._database, self._verdicts, self._builder, comparer, self._account)
        self._account.show(self._runner.devices())

    def _begin_round(self) -> bool:
        """Search candidates and start building them; tell whether there was a task to search for."""
        choice = next_round([task.state for task in self._tasks], self._account.trials_left)
        if choice is None:
            return False
        index, size = choice
        task = self._tasks[index]
        with self._account.stages.busy("search"), held_back():
            candidates = task.search.candidates(size, task.known)
        if candidates:
            task.begin(candidates)
            self._flow.add(Batch(task, candidates))
        else:
            task.state.exhausted = True
        return True

    def _keep(self, trial: Trial) -> None:
        """Write one trial into the database; a failed one too, so that it is not made again."""
        task, candidate, measured = trial.batch.task, trial.candidate, trial.measured
        with held_back():
            self._database.commit_tuning_record(
                ms.database.TuningRecord(
                    candidate.sch.trace,
                    task.workload,
                    list(measured.seconds) or [db.FAILED_SECONDS],
                    self._target.target(),
                    candidate.args_info,
                )
            )
            task.end(measured.mean)
            self._account.count(trial)
            if trial.batch.take(trial):
                with self._account.stages.busy("search"):
                    trial.batch.learn()


def _result(tasks: list[Task], account: Account, cleaning: db.Cleaning) -> TuningResult:
    return TuningResult(
        tasks=tuple(_sum_up(task) for task in tasks),
        trials_measured=account.done - account.reused,
        trials_reused=account.reused,
        failures=dict(account.failures),
        wrong=tuple(account.wrong),
        uncompared=tuple(account.uncompared),
        outliers=account.outliers,
        unsteady=account.unsteady,
        cleaning=cleaning,
        seconds=account.seconds,
        stages=account.stages.seconds(),
    )


def _sum_up(task: Task) -> TaskResult:
    best = task.state.best_seconds
    return TaskResult(
        task.name, task.state.calls, task.state.trials, task.failed, None if best is None else best * 1e6
    )
