"""The charts of a deployment's report, each one SVG element: latency and multiply-adds, accuracy by step."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.model import Accuracy, Report
from pipeline.report.tables import count, metric_value, milliseconds, printable

NETWORKS = ("original", "merged")
COLOURS = ("#adb5bd", "#0b7285")
UNDONE = "#8a4b00"
LONGEST_NAME = 32
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deeprebirth",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": "#1c2733",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
}


def chart(report: Report) -> str:
    """Return an `<svg>` element with two pairs of bars, original against merged.

    The thin line on a latency bar reaches from the median to the 90th percentile.
    """
    latency = (report.latency_ms.original, report.latency_ms.merged)
    medians, p90s = [each.median for each in latency], [each.p90 for each in latency]
    macs = [report.totals.original.macs, report.totals.merged.macs]
    emulated = ", emulated" if report.device.emulated else ""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        above, below = figure.subplots(2, 1)
        _bars(above, f"Latency{emulated}: median, line to 90th percentile", medians)
        above.hlines(NETWORKS, medians, p90s, color="#1c2733", linewidth=1.5)
        _labels(above, p90s, [milliseconds(median) for median in medians])
        _bars(below, "Multiply-adds", macs)
        _labels(below, macs, [count(value) for value in macs])
        return svg(figure, "Latency and multiply-adds, original against merged")


def accuracy_chart(accuracy: Accuracy) -> str:
    """Return an `<svg>` element with the metric of the original and after each step, from top to bottom.

    Crosses are steps that were undone, with what they reached; the line goes through what was kept.
    """
    names = ["original", *(short(step.name) for step in accuracy.steps)]
    values = [accuracy.before, *(step.accuracy for step in accuracy.steps)]
    kept = [True, *(step.kept for step in accuracy.steps)]
    rows = range(len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 0.8 + 0.28 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            [value for value, good in zip(values, kept, strict=True) if good],
            [row for row, good in zip(rows, kept, strict=True) if good],
            color=COLOURS[1],
            marker="o",
        )
        for row, value, good in zip(rows, values, kept, strict=True):
            if not good:
                axes.plot([value], [row], color=UNDONE, marker="x")
            axes.annotate(
                metric_value(value), (value, row), xytext=(7, 0), textcoords="offset points", va="center"
            )
        title = f"{short(accuracy.metric)} after each step"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
        axes.set_yticks(rows, names, parse_math=False)
        _plain(axes)
        return svg(figure, "Accuracy after each step")


def short(name: str) -> str:
    """Return a name that fits beside a chart."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _bars(axes: Axes, title: str, values: Sequence[float]) -> None:
    axes.barh(NETWORKS, values, color=COLOURS, height=0.65)
    axes.set_title(title)
    _plain(axes)


def _plain(axes: Axes) -> None:
    """The first row on top, no axes, room for labels at the right."""
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _labels(axes: Axes, ends: Sequence[float], labels: Sequence[str]) -> None:
    for network, end, label in zip(NETWORKS, ends, labels, strict=True):
        axes.annotate(label, (end, network), xytext=(5, 0), textcoords="offset points", va="center")


def svg(figure: Figure, label: str) -> str:
    """Return a figure as an `<svg>` element with a label for those who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
