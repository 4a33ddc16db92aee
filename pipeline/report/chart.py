"""The chart of a report: latency with its 90th percentile, and multiply-adds, as one SVG element."""

import io
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.model import Report
from pipeline.report.tables import count, milliseconds

NETWORKS = ("original", "merged")
COLOURS = ("#adb5bd", "#0b7285")
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
        return _svg(figure)


def _bars(axes: Axes, title: str, values: Sequence[float]) -> None:
    axes.barh(NETWORKS, values, color=COLOURS, height=0.65)
    axes.set_title(title)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _labels(axes: Axes, ends: Sequence[float], labels: Sequence[str]) -> None:
    for network, end, label in zip(NETWORKS, ends, labels, strict=True):
        axes.annotate(label, (end, network), xytext=(5, 0), textcoords="offset points", va="center")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(
        "<svg", '<svg role="img" aria-label="Latency and multiply-adds, original against merged"', 1
    )
