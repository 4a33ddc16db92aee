"""The tables of a report on tuning sessions, as plain text cells."""

from collections.abc import Iterable

from pipeline.report.session_model import NO_END, SessionFacts, SessionsReport, TaskFacts
from pipeline.report.tables import NOTHING, Table, duration, milliseconds, percent_change

MOST_TASKS = 20
MOST_NOTES = 50
STAGES = ("search", "build", "measure", "check", "idle")


def title(report: SessionsReport) -> str:
    """Return the title of a report."""
    if len(report.sessions) == 1:
        return f"Tuning {report.sessions[0].network} for {report.sessions[0].target}"
    return f"{len(report.sessions)} tuning sessions"


def headline(report: SessionsReport) -> str:
    """Return the result in one line."""
    if len(report.sessions) > 1:
        return f"{sum(each.trials for each in report.sessions):,} trials in {len(report.sessions)} sessions"
    (session,) = report.sessions
    if session.best_ms is None:
        return "No time for the network yet: some task has no schedule that runs"
    return f"{_course(session)}, estimated, on {session.where}"


def session_tables(report: SessionsReport) -> tuple[Table, ...]:
    """Return every table of a report in the order in which it is read."""
    return (
        _found(report),
        _settings(report),
        *map(_tasks, report.sessions),
        _failures(report),
        _devices(report),
        _stages(report),
        *(_notes(session) for session in report.sessions if session.notes),
        _logs(report),
    )


def _found(report: SessionsReport) -> Table:
    return Table(
        title="What was found",
        header=("session", "first", "best", "change", "trials", "reused", "failed", "took"),
        rows=tuple(
            (
                each.label,
                milliseconds(each.first_ms) + _emulated(each),
                milliseconds(each.best_ms) + _emulated(each),
                _change(each, each.first_ms, each.best_ms),
                f"{each.trials:,}",
                f"{each.reused:,}",
                f"{each.failed:,}",
                duration(each.seconds),
            )
            for each in report.sessions
        ),
        note="The network's latency is estimated: the sum of its tasks' best times. "
        "The first one is that from when every task had a time.",
        numbers=frozenset(range(1, 8)),
    )


def _settings(report: SessionsReport) -> Table:
    return Table(
        title="What was tuned",
        header=("session", "target", "measured on", "began", "budget", "ended", "versions"),
        rows=tuple(
            (
                each.label,
                each.target,
                each.where,
                _began(each),
                _budget(each),
                _end(each),
                ", ".join(f"{name} {version}" for name, version in each.versions.items()),
            )
            for each in report.sessions
        ),
    )


def _tasks(session: SessionFacts) -> Table:
    shown, rest = session.tasks[:MOST_TASKS], session.tasks[MOST_TASKS:]
    rows = [_task(session, each) for each in shown]
    if rest:
        rows.append(_others(rest))
    peak = f", whose measured peak is {session.peak_gflops:.3g} GFLOP/s" if session.peak_gflops else ""
    note = f"Times of one call on {session.where}{peak}; time is the task's share of the network's."
    return Table(
        title=f"Tasks of {session.label}",
        header=("task", "calls", "trials", "failed", "first", "best", "change", "time", "GFLOP/s", "of peak"),
        rows=tuple(rows),
        note=note if rows else "",
        numbers=frozenset(range(1, 10)),
        empty="no state of its tasks was logged.",
    )


def _task(session: SessionFacts, task: TaskFacts) -> tuple[str, ...]:
    return (
        task.name,
        f"{task.calls:,}",
        f"{task.trials:,}{' (stopped)' if task.stopped else ''}",
        f"{task.failed:,}",
        _call(task.first_us),
        _call(task.best_us),
        _change(session, task.first_us, task.best_us),
        _percent(task.share),
        NOTHING if task.gflops is None else f"{task.gflops:.3g}",
        _percent(task.of_peak),
    )


def _others(rest: tuple[TaskFacts, ...]) -> tuple[str, ...]:
    trials, failed = sum(each.trials for each in rest), sum(each.failed for each in rest)
    share = sum(each.share or 0.0 for each in rest)
    name = f"{len(rest)} others"
    return (name, "", f"{trials:,}", f"{failed:,}", "", "", "", _percent(share), "", "")


def _failures(report: SessionsReport) -> Table:
    return Table(
        title="Trials that failed",
        header=("session", "cause", "trials", "share"),
        rows=tuple(
            (session.label, cause, f"{number:,}", _percent(number / session.trials))
            for session in report.sessions
            for cause, number in session.failures.items()
        ),
        note=_measurements(report.sessions),
        numbers=frozenset({2, 3}),
        empty="None.",
    )


def _measurements(sessions: Iterable[SessionFacts]) -> str:
    """Return a sentence on outliers and unsteady times, where there were some."""
    return " ".join(
        f"{each.label}: {each.outliers:,} outliers left out, {each.unsteady:,} trials with a large spread."
        for each in sessions
        if each.outliers or each.unsteady
    )


def _devices(report: SessionsReport) -> Table:
    return Table(
        title="Devices",
        header=("session", "device", "at the end", "trials", "failed"),
        rows=tuple(
            (session.label, each.address, each.status or NOTHING, f"{each.trials:,}", f"{each.failed:,}")
            for session in report.sessions
            for each in session.devices
        ),
        numbers=frozenset({3, 4}),
        empty="none was logged.",
    )


def _stages(report: SessionsReport) -> Table:
    return Table(
        title="Stages",
        header=("session", *STAGES),
        rows=tuple(
            (session.label, *(_stage(session, name) for name in STAGES))
            for session in report.sessions
            if session.stages
        ),
        note="Share of the time in which a stage had something to do; stages overlap. "
        "Idle is when no device had.",
        numbers=frozenset(range(1, 1 + len(STAGES))),
        empty="not logged.",
    )


def _stage(session: SessionFacts, name: str) -> str:
    known = name in session.stages and session.seconds > 0
    return _percent(session.stages[name] / session.seconds) if known else NOTHING


def _notes(session: SessionFacts) -> Table:
    older = len(session.notes) - MOST_NOTES
    return Table(
        title=f"Notes of {session.label}",
        header=("after", "about", "note"),
        rows=tuple((duration(each.at), each.about, each.text) for each in session.notes[-MOST_NOTES:]),
        note=f"{older:,} older ones are in report.json." if older > 0 else "",
        numbers=frozenset({0}),
    )


def _logs(report: SessionsReport) -> Table:
    return Table(
        title="Logs",
        header=("log", "sessions", "lines that could not be used"),
        rows=tuple((log.path, f"{log.sessions:,}", f"{log.bad_lines:,}") for log in report.logs),
        numbers=frozenset({1, 2}),
    )


def _change(session: SessionFacts, before: float | None, after: float | None) -> str:
    """Return by how much a time changed; nothing is claimed of an emulated device."""
    return NOTHING if session.emulated else percent_change(before, after)


def _course(session: SessionFacts) -> str:
    if session.first_ms == session.best_ms:
        return milliseconds(session.best_ms)
    return f"{milliseconds(session.first_ms)} -> {milliseconds(session.best_ms)}"


def _budget(session: SessionFacts) -> str:
    if session.time_budget is not None:
        return duration(session.time_budget)
    return NOTHING if session.trials_asked is None else f"{session.trials_asked:,} trials"


def _began(session: SessionFacts) -> str:
    when = session.began.replace("T", " ")
    return f"{when}, continues {session.continues}" if session.continues else when


def _end(session: SessionFacts) -> str:
    if session.end is None:
        return NO_END
    return f"{session.end}: {session.end_detail}" if session.end_detail else session.end


def _emulated(session: SessionFacts) -> str:
    return " (emulated)" if session.emulated and session.best_ms is not None else ""


def _call(us: float | None) -> str:
    return milliseconds(None if us is None else us / 1e3)


def _percent(share: float | None) -> str:
    if share is None:
        return NOTHING
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
