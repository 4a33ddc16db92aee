"""Show where tuning is: the budget, the network's latency, stages, devices, failures, and the tasks.

Lines of text that fit the width and the height they are given. What matters less is left out first: the
columns at the right, then the tasks with the least share of the time, then the lines at the bottom.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from pipeline.report.session_tables import STAGES
from pipeline.report.tables import NOTHING, duration, milliseconds, printable

if TYPE_CHECKING:
    from tuning.progress import DeviceProgress, TaskProgress, TuningProgress

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 32
BAR_WIDTH = 24
PEAK_WIDTH = 8
LEAST_NAME = 18
MOST_NAME = 60
MOST_DEVICES = 4
LEAST_HEIGHT_FOR_DEVICES = 20


class Fall:
    """The network's estimated latency since tuning began, thinned so that it stays short."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._every, self._next = 1.0, 0.0

    def add(self, at: float, value: float) -> None:
        """Take the latency at a time; a later one replaces it if it comes soon after."""
        if self.points and at < self._next:
            self.points[-1] = value
            return
        self.points.append(value)
        if len(self.points) > 2 * SPARK_WIDTH:
            self.points = [*self.points[:-1:2], value]
            self._every *= 2
        self._next = at + self._every

    def spark(self, width: int) -> str:
        """Draw it on a logarithmic scale, the oldest at the left."""
        count = min(width, len(self.points))
        last = len(self.points) - 1
        shown = [self.points[round(each * last / max(count - 1, 1))] for each in range(count)]
        low, high = math.log(min(shown)), math.log(max(shown))
        scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
        return "".join(SPARKS[round((math.log(value) - low) * scale)] for value in shown)


@dataclass(frozen=True)
class Column:
    """A column of the tasks: its title, its width, and the cell of a task."""

    title: str
    width: int
    cell: Callable[["TaskProgress"], Text]


def tuning_lines(update: "TuningProgress", fall: Fall, width: int, height: int) -> list[Text]:
    """Return what the live view shows, at most `height` lines of at most `width` cells.

    Parameters
    ----------
    update : TuningProgress
        The newest state.
    fall : Fall
        The latency until now.
    """
    lines = [
        _budget(update, width),
        _latency(update, fall, width),
        *_measured_on(update),
        *_stages(update),
        *_devices(update.devices, height),
        *_failures(update),
    ]
    rows = height - len(lines) - 2
    if rows >= 2:
        lines += [Text(""), *_tasks(update, width, rows)]
    else:
        lines.insert(2, Text(f"  {current_task(update)}"))
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines[: max(height, 1)]


def tuning_line(update: "TuningProgress") -> str:
    """Return the state in one line."""
    failed, gone = sum(update.failures.values()), _count(update.devices, "gone")
    parts = [
        current_task(update),
        _trials(update),
        _best(update),
        *([f"{failed:,} failed"] if failed else []),
        *([f"{gone} of {len(update.devices)} devices gone"] if gone else []),
        _left(update),
    ]
    return ", ".join(parts)


def share_done(update: "TuningProgress") -> float | None:
    """Return how much of the budget is spent, from 0 to 1; None if that is not known."""
    if update.trials_total is not None:
        return min(update.trials_done / max(update.trials_total, 1), 1.0)
    if update.seconds_left is None:
        return None
    return update.at / max(update.at + update.seconds_left, 1e-9)


def current_task(update: "TuningProgress") -> str:
    """Return the task whose trial came last, and its number."""
    if update.current is None or update.current >= len(update.tasks):
        return f"{len(update.tasks)} tasks"
    name = _fit(printable(update.tasks[update.current].name), MOST_NAME).rstrip()
    return f"task {update.current + 1} of {len(update.tasks)} {name}"


def _budget(update: "TuningProgress", width: int) -> Text:
    words = f"{_trials(update)}, {_left(update)}"
    bar = _bar(share_done(update) or 0.0, min(width - cell_len(words) - 4, BAR_WIDTH))
    return Text.assemble("  ", bar, "  " if bar.plain else "", words)


def _latency(update: "TuningProgress", fall: Fall, width: int) -> Text:
    line = Text.assemble(("  network  ", "dim"), (_best(update), "bold"))
    if fall.points and line.cell_len + SPARK_WIDTH <= width:
        first = f" from {milliseconds(fall.points[0])}"
        line.append(f"  {fall.spark(SPARK_WIDTH - len(first) - 2)}", "cyan").append(first, "dim")
    return line


def _measured_on(update: "TuningProgress") -> Iterable[Text]:
    if update.measured_on:
        emulated = ", emulated" if update.emulated else ""
        yield _labelled("on", f"{printable(update.measured_on)}{emulated}")


def _stages(update: "TuningProgress") -> Iterable[Text]:
    if update.stages and update.at:
        known = (name for name in STAGES if name in update.stages)
        shares = (f"{name} {update.stages[name] / update.at:.0%}" for name in known)
        yield _labelled("stages", ", ".join(shares))


def _devices(devices: "Sequence[DeviceProgress]", height: int) -> Iterable[Text]:
    if not devices:
        return
    if len(devices) <= (MOST_DEVICES if height >= LEAST_HEIGHT_FOR_DEVICES else 1):
        yield from (
            _labelled("" if index else "devices", _device(device)) for index, device in enumerate(devices)
        )
        return
    states = Counter(device.status for device in devices)
    counts = ", ".join(f"{number} {status}" for status, number in states.most_common())
    gone = ", ".join(printable(device.address) for device in devices if device.status == "gone")
    yield _labelled("devices", f"{counts}: {gone}" if gone else counts)


def _device(device: "DeviceProgress") -> str:
    failed = f", {device.failed:,} failed" if device.failed else ""
    return f"{printable(device.address)} {device.status}, {device.trials:,} trials{failed}"


def _failures(update: "TuningProgress") -> Iterable[Text]:
    causes = Counter({str(cause): number for cause, number in update.failures.items() if number})
    if causes:
        text = ", ".join(f"{number:,} {cause}" for cause, number in causes.most_common())
        yield _labelled("failed", text, "yellow")


def _tasks(update: "TuningProgress", width: int, height: int) -> list[Text]:
    """Return a header and at most `height` rows, the last of them for the tasks that have none."""
    columns = _columns(update, width)
    name_width = min(width - 2 - sum(column.width for column in columns), MOST_NAME)
    header = Text(f"  {_fit('task', name_width)}", "dim")
    for column in columns:
        header.append(column.title.rjust(column.width))
    order = sorted(range(len(update.tasks)), key=lambda index: _size(update.tasks[index]))
    shown = order if len(order) <= height else _first(order, height - 1, update.current)
    rows = [_row(update.tasks[index], index == update.current, columns, name_width) for index in shown]
    rest = [update.tasks[index] for index in order if index not in set(shown)]
    return [header, *rows, *([_others(rest, _network_us(update))] if rest else [])]


def _row(task: "TaskProgress", current: bool, columns: Iterable[Column], name_width: int) -> Text:
    mark = "> " if current else "✓ " if task.stopped else "  "
    row = Text.assemble((mark, "bold"), _fit(printable(task.name), name_width))
    for column in columns:
        row.append_text(column.cell(task))
    row.stylize("dim" if task.stopped else "")
    return row


def _others(tasks: "Sequence[TaskProgress]", total: float) -> Text:
    share = _percent(sum(task.network_us or 0.0 for task in tasks), total)
    trials = sum(task.trials for task in tasks)
    return Text(f"  {len(tasks)} others: {share} of the time, {trials:,} trials", "dim")


def _columns(update: "TuningProgress", width: int) -> list[Column]:
    """Return as many columns as leave room for the name."""
    total, peak = _network_us(update), update.peak_gflops
    columns = [
        Column("time", 7, lambda task: Text(_percent(task.network_us, total).rjust(7))),
        Column("best", 11, lambda task: Text(_best_of(task).rjust(11))),
        Column("trials", 8, lambda task: Text(f"{task.trials:,}".rjust(8))),
        Column("GFLOP/s", 9, lambda task: Text(_gflops(task).rjust(9))),
    ]
    if peak is not None:
        columns.append(Column("of peak", PEAK_WIDTH + 8, lambda task: _of_peak(task, peak)))
    while columns and width - 2 - sum(column.width for column in columns) < LEAST_NAME:
        columns.pop()
    return columns


def _of_peak(task: "TaskProgress", peak: float) -> Text:
    if task.gflops is None:
        return Text(NOTHING.rjust(PEAK_WIDTH + 8))
    share = task.gflops / peak
    return Text.assemble("  ", _bar(share, PEAK_WIDTH), f"{share:.0%}"[:6].rjust(6))


def _first(order: list[int], count: int, current: int | None) -> list[int]:
    """Return the first ones; the current one takes the last place if it is not among them."""
    first = order[:count]
    if current is not None and current in order and current not in first:
        first[-1:] = [current]
    return first


def _size(task: "TaskProgress") -> tuple[bool, float]:
    """Sort by time in the network, then those without a time by their operations."""
    us = task.network_us
    return (us is None, -(task.weight * task.flop if us is None else us))


def _network_us(update: "TuningProgress") -> float:
    return sum(task.network_us or 0.0 for task in update.tasks)


def _percent(part: float | None, whole: float) -> str:
    return NOTHING if part is None or not whole else f"{part / whole:.0%}"


def _best_of(task: "TaskProgress") -> str:
    return milliseconds(None if task.best_us is None else task.best_us / 1e3)


def _gflops(task: "TaskProgress") -> str:
    return NOTHING if task.gflops is None else f"{task.gflops:.3g}"


def _trials(update: "TuningProgress") -> str:
    total = "" if update.trials_total is None else f" of {update.trials_total:,}"
    return f"{update.trials_done:,}{total} trials"


def _best(update: "TuningProgress") -> str:
    if update.best_ms is None:
        return "no time yet"
    return f"best {milliseconds(update.best_ms)} for the network{', emulated' if update.emulated else ''}"


def _left(update: "TuningProgress") -> str:
    return "time left unknown" if update.seconds_left is None else f"{duration(update.seconds_left)} left"


def _labelled(label: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"  {label:<9}", "dim"), (text, style))


def _bar(share: float, width: int) -> Text:
    filled = round(min(max(share, 0.0), 1.0) * width)
    return Text.assemble(("━" * filled, "cyan"), ("━" * (width - filled), "bright_black"))


def _fit(text: str, width: int) -> str:
    """Return text of a width in cells; of one too long the middle is left out, as numbers are at the end."""
    if cell_len(text) > width:
        tail = max(width // 2 - 2, 0)
        text = f"{set_cell_size(text, max(width - tail - 3, 0))}...{text[len(text) - tail :]}"
    return set_cell_size(text, max(width, 0))


def _count(devices: "Sequence[DeviceProgress]", status: str) -> int:
    return sum(device.status == status for device in devices)
