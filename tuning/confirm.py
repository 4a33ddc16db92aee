"""Compares the best schedule of each task with the untuned function on the device, several at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from tvm.s_tir import meta_schedule as ms

from tuning.account import Account
from tuning.building.built import Builder
from tuning.interrupts import held_back
from tuning.measuring.compare import Comparer
from tuning.records import database as db
from tuning.records.checking import Checked, check_best, ranked
from tuning.records.verdicts import Judgement, Verdicts
from tuning.tasks import Task


def unconfirmed(tasks: Sequence[Task], database: ms.database.Database, verdicts: Verdicts) -> bool:
    """Tell whether the best schedule of a task has not been compared yet."""
    for task in tasks:
        best = next(iter(ranked(task.workload, database)), None)
        if best is not None and verdicts.verdict_of(task.workload, best.trace) is None:
            return True
    return False


def confirm(
    tasks: Sequence[Task],
    database: ms.database.Database,
    verdicts: Verdicts,
    builder: Builder,
    comparer: Comparer,
    account: Account,
) -> None:
    """Ban schedules that compute something wrong; each task's time becomes that of its best right one.

    Raises
    ------
    TuningError
        If the device is gone for good, or nothing can be built any more.
    """
    with account.stages.busy("check"), _threads(builder.slots + 1) as pool:
        checks: dict[Future[Checked], Task] = {
            pool.submit(check_best, task.workload, database, verdicts, builder, comparer): task
            for task in tasks
            if task.state.best_seconds is not None
        }
        for future in as_completed(checks):
            with held_back():
                _take(checks[future], future.result(), account)


def _take(task: Task, checked: Checked, account: Account) -> None:
    for _, verdict in checked.banned:
        account.banned(task, verdict)
    if checked.verdict is not None and checked.verdict.judgement is Judgement.NOT_COMPARED:
        account.not_compared(task, checked.verdict)
    if checked.banned:
        record = checked.record
        task.state.best_seconds = None if record is None else db.best_seconds(record.run_secs)


@contextmanager
def _threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are not waited for when the block is left by an error: they end with the builder."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
