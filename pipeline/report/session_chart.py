"""The charts of a report on tuning sessions, each one SVG element."""

from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.chart import COLOURS, STYLE, UNDONE, short, svg
from pipeline.report.session_model import Point, SessionFacts, SessionsReport, TaskFacts
from pipeline.report.tables import milliseconds

LINES = ("#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#c2255c", "#1864ab", "#846358", "#495057")
MOST_TASKS = 15
STEEP = 5.0
"""From this ratio of the largest to the smallest latency on the scale is logarithmic."""


def session_charts(report: SessionsReport) -> tuple[str, ...]:
    """Return the charts of a report: the networks' latency, and for each session where its trials went.

    With more sessions than there are colours, the newest are drawn.
    """
    drawn = report.sessions[-len(LINES) :]
    with matplotlib.rc_context(STYLE):
        return (
            *([_latency(drawn, len(report.sessions))] if any(each.latency for each in drawn) else []),
            *(_trials(each) for each in drawn if each.tasks),
        )


def _latency(sessions: Sequence[SessionFacts], of: int) -> str:
    """Draw the latency of the networks against time, and against trials."""
    colours = _colours(sessions)
    figure = Figure(figsize=(6.4, 4.4 + 0.22 * len(sessions)), layout="constrained")
    above, below = figure.subplots(2, 1)
    axes = ((above, "seconds", _seconds), (below, "trials", _made))
    for each, unit, place in axes:
        for session in sessions:
            if session.latency:
                _line(each, session, colours[session.label], place, named=session.continues not in colours)
        _scale(each, [point.ms for session in sessions for point in session.latency])
        each.set_xlabel(unit)
        each.spines[["top", "right"]].set_visible(False)
    newest = f", newest {len(sessions)} of {of} sessions" if len(sessions) < of else ""
    above.set_title(f"Latency of the network, estimated, ms{newest}")
    handles, names = above.get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside lower left", frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return svg(figure, "Estimated latency of the network against seconds and trials")


def _colours(sessions: Sequence[SessionFacts]) -> dict[str, str]:
    """Return a colour for each session by its label; one that goes on from another has the same."""
    colours: dict[str, str] = {}
    for session in sessions:
        colours[session.label] = colours.get(session.continues or "") or LINES[len(set(colours.values()))]
    return colours


def _line(
    axes: Axes,
    session: SessionFacts,
    colour: str,
    place: Callable[[SessionFacts, Point], float],
    *,
    named: bool,
) -> None:
    """Draw steps from point to point up to the end of the session; a cross is an end that was not logged.

    A session that goes on from another begins where that one ended.
    """
    end = Point(at=session.seconds, trials=session.trials, ms=session.latency[-1].ms)
    points = (*session.latency, end)
    places, values = [place(session, point) for point in points], [point.ms for point in points]
    name = f"{short(session.label)} on {short(session.measured_on)}{', emulated' if session.emulated else ''}"
    axes.step(places, values, where="post", color=colour, label=name if named else "_")
    axes.plot(places[-1:], values[-1:], color=colour, marker="x" if session.end is None else "o")


def _seconds(session: SessionFacts, point: Point) -> float:
    return session.seconds_before + point.at


def _made(session: SessionFacts, point: Point) -> float:
    return float(session.trials_before + point.trials)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Begin at zero, or choose a logarithmic scale for a steep fall; label it with plain numbers."""
    if max(values) > STEEP * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")


def _trials(session: SessionFacts) -> str:
    """Draw for the tasks with the most time what each gained, and how many trials it got."""
    tasks = session.tasks[:MOST_TASKS]
    rows = range(len(tasks))
    emulated = ", emulated" if session.emulated else ""
    figure = Figure(figsize=(7.0, 1.0 + 0.28 * len(tasks)), layout="constrained")
    figure.suptitle(f"Tasks of {short(session.label)}", x=0.01, ha="left", fontsize=11, parse_math=False)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 3))
    for row, task in zip(rows, tasks, strict=True):
        _gain(left, row, task)
        failed, made = task.failed, task.trials
        right.barh([row], [made - failed], color=COLOURS[1], height=0.6)
        right.barh([row], [failed], left=[made - failed], color=UNDONE, height=0.6)
        right.annotate(f"{made:,}", (made, row), xytext=(4, 0), textcoords="offset points", va="center")
    left.set_title(f"ms in the network, first and best{emulated}", fontsize=9)
    right.set_title("trials (brown: failed)", fontsize=9)
    left.set_yticks(rows, [short(task.name) for task in tasks], parse_math=False)
    left.invert_yaxis()
    for axes in (left, right):
        axes.margins(x=0.5)
        axes.tick_params(length=0, labelbottom=False)
        axes.spines[:].set_visible(False)
    return svg(figure, "What each task gained, and how many trials it got")


def _gain(axes: Axes, row: int, task: TaskFacts) -> None:
    if task.best_us is None or task.first_us is None:
        return
    first, best = (task.calls * us / 1e3 for us in (task.first_us, task.best_us))
    axes.barh([row], [first], color=COLOURS[0], height=0.6)
    axes.barh([row], [best], color=COLOURS[1], height=0.6)
    label = f"{first:.3g} -> {milliseconds(best)}" if first != best else milliseconds(best)
    axes.annotate(label, (max(first, best), row), xytext=(4, 0), textcoords="offset points", va="center")
