"""Make the report of tuning sessions from their logs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.report.session_model import (
    DeviceFacts,
    LogFacts,
    Noted,
    Point,
    SessionFacts,
    SessionsReport,
    TaskFacts,
)
from tuning.errors import TuningError
from tuning.progress import TaskProgress, Trial, TuningProgress
from tuning.session_log import Log, LoggedSession, read_log


def report_of(paths: Sequence[Path]) -> SessionsReport:
    """Read logs and make the report of all their sessions.

    Parameters
    ----------
    paths : sequence of Path
        At least one; a file that is named twice is read once.

    Raises
    ------
    UserError
        One of them is no log of a tuning session.
    """
    logs = {str(path): _read(path) for path in {path.resolve(): path for path in paths}.values()}
    sessions = [session for log in logs.values() for session in log.sessions]
    return SessionsReport(
        logs=tuple(
            LogFacts(path=path, sessions=len(log.sessions), bad_lines=log.bad_lines, problems=log.problems)
            for path, log in logs.items()
        ),
        sessions=tuple(_in_order(sessions)),
    )


def _in_order(sessions: Sequence[LoggedSession]) -> Iterable[SessionFacts]:
    """Return the sessions as they began; each may go on from the latest one of its network and device."""
    latest: dict[tuple[str, ...], SessionFacts] = {}
    for number, session in enumerate(sorted(sessions, key=lambda each: each.started.time), 1):
        network = session.started.network
        facts = _facts(network if len(sessions) == 1 else f"{number}. {network}", session)
        of = (network, facts.target, facts.measured_on)
        before = latest.get(of)
        if before is not None and facts.reused >= before.reused + before.trials > 0:
            facts = _continued(facts, before)
        latest[of] = facts
        yield facts


def _continued(session: SessionFacts, before: SessionFacts) -> SessionFacts:
    """Return a session that goes on from another: its database held at least the other's trials."""
    return session.model_copy(
        update={
            "continues": before.label,
            "seconds_before": before.seconds_before + before.seconds,
            "trials_before": before.trials_before + before.trials,
        }
    )


def _read(path: Path) -> Log:
    try:
        return read_log(path)
    except TuningError as error:
        raise UserError(str(error)) from None


def _facts(label: str, session: LoggedSession) -> SessionFacts:
    started, ended, trials = session.started, session.ended, session.trials
    known = [state for state in session.progress if state.best_ms is not None]
    failures = Counter(str(trial.cause) for trial in trials if trial.cause is not None)
    last = session.progress[-1] if session.progress else None
    seconds = max((line.at for line in _timed(session)), default=0.0)
    return SessionFacts(
        label=label,
        continues=None,
        seconds_before=0.0,
        trials_before=0,
        network=started.network,
        target=started.target,
        measured_on=started.measured_on,
        emulated=started.emulated,
        began=started.time,
        versions=started.versions,
        trials_asked=started.trials,
        time_budget=started.time_budget,
        reused=started.reused,
        end=ended.reason if ended else None,
        end_detail=ended.detail if ended else "",
        seconds=seconds,
        trials=len(trials),
        failed=failures.total(),
        failures=dict(failures.most_common()),
        outliers=sum(trial.outliers for trial in trials),
        unsteady=sum(not trial.steady for trial in trials),
        first_ms=known[0].best_ms if known else None,
        best_ms=known[-1].best_ms if known else None,
        peak_gflops=last.peak_gflops if last else None,
        latency=tuple(_latency(known, started.reused)),
        tasks=tuple(_tasks(session.progress, trials)),
        devices=tuple(_devices(last, trials)),
        stages=dict(last.stages) if last else {},
        notes=tuple(Noted(at=note.at, about=note.about, text=note.text) for note in session.notes),
    )


def _timed(session: LoggedSession) -> Iterable:
    yield from (*session.progress, *session.trials, *session.notes)
    if session.ended:
        yield session.ended


def _latency(states: Iterable[TuningProgress], reused: int) -> Iterable[Point]:
    """Return the course of the network's time, without states that changed nothing of it."""
    before = None
    for state in states:
        if state.best_ms != before:
            yield Point(at=state.at, trials=max(state.trials_done - reused, 0), ms=state.best_ms)
        before = state.best_ms


def _tasks(states: Sequence[TuningProgress], trials: Iterable[Trial]) -> Iterable[TaskFacts]:
    """Return what became of each task, those with the most time first."""
    if not states:
        return
    first: dict[str, float] = {}
    for state in states:
        for task in state.tasks:
            if task.best_us is not None:
                first.setdefault(task.name, task.best_us)
    made = Counter(trial.task for trial in trials)
    failed = Counter(trial.task for trial in trials if trial.cause is not None)
    last = states[-1]
    total = sum(task.network_us or 0.0 for task in last.tasks)
    for task in sorted(last.tasks, key=lambda each: -(each.network_us or 0.0)):
        yield TaskFacts(
            name=task.name,
            calls=task.weight,
            trials=made[task.name],
            failed=failed[task.name],
            first_us=first.get(task.name),
            best_us=task.best_us,
            share=_share(task, total),
            gflops=task.gflops,
            of_peak=None if None in (task.gflops, last.peak_gflops) else task.gflops / last.peak_gflops,
            stopped=task.stopped,
        )


def _share(task: TaskProgress, total: float) -> float | None:
    return task.network_us / total if task.network_us is not None and total else None


def _devices(last: TuningProgress | None, trials: Sequence[Trial]) -> Iterable[DeviceFacts]:
    states = {device.address: device.status for device in last.devices} if last else {}
    made = Counter(trial.device for trial in trials if trial.device is not None)
    failed = Counter(trial.device for trial in trials if trial.cause is not None)
    for address in sorted({*states, *made}):
        yield DeviceFacts(
            address=address,
            status=states.get(address),
            trials=made[address],
            failed=failed[address],
        )
