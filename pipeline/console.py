"""Show how far a deployment or a retraining is, on standard error.

A live display on a terminal, plain lines anywhere else, and nothing when it is asked to be quiet.
"""

import math
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.report.tables import duration, metric_value, printable
from pipeline.tuning_view import Fall, share_done, tuning_line, tuning_lines

if TYPE_CHECKING:
    from pipeline.retraining.progress import TrainingProgress
    from tuning.progress import TuningProgress

LINES = 20
NAME_WIDTH = 60
LEAST_VIEW = 18
"""Lines that the state of tuning gets before the stages that ended get any."""


class Display(Protocol):
    """One way to show progress."""

    def stage(self, name: str) -> None:
        """Show that a stage begins and that the one before it has ended."""

    def tuning(self, update: "TuningProgress") -> None:
        """Show how far a tuning session is."""

    def training(self, update: "TrainingProgress") -> None:
        """Show how far retraining is."""

    def say(self, line: str) -> None:
        """Show a line that stays."""

    def shown(self) -> AbstractContextManager:
        """Return what keeps the display up."""


class Progress:
    """What a deployment reports its stages, its tuning and its retraining to.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    console : Console | None
        Where to show it; standard error when None.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None):
        console = console or Console(stderr=True)
        if quiet:
            self._display: Display = Silence()
        elif console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf"):
            self._display = LiveDisplay(console)
        else:
            self._display = PlainLines(console)

    def stage(self, name: str) -> None:
        """Tell that a stage begins and that the one before it has ended."""
        self._display.stage(printable(name))

    def tuning(self, update: "TuningProgress") -> None:
        """Tell how far a tuning session is."""
        self._display.tuning(update)

    def training(self, update: "TrainingProgress") -> None:
        """Tell how far retraining is."""
        self._display.training(update)

    def say(self, line: str) -> None:
        """Tell what the user should know, in one line."""
        self._display.say(printable(line))

    def __enter__(self) -> Self:
        self._shown = self._display.shown()
        self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)


class Silence:
    """Shows nothing."""

    def stage(self, name: str) -> None:
        """Show nothing."""

    def tuning(self, update: "TuningProgress") -> None:
        """Show nothing."""

    def training(self, update: "TrainingProgress") -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def shown(self) -> AbstractContextManager:
        """Return nothing to keep up."""
        return nullcontext()


class PlainLines:
    """A line for each stage, and one for about every twentieth of the trials, or of a step's batches."""

    def __init__(self, console: Console):
        self._console = console
        self._last = (-1, -1)

    def stage(self, name: str) -> None:
        """Print the stage's name."""
        self._last = (-1, -1)
        self._print(name)

    def tuning(self, update: "TuningProgress") -> None:
        """Print a line if enough of the budget was spent since the last one, or else each minute."""
        share = share_done(update)
        done = int(update.at / 60) if share is None else int(LINES * share)
        if self._is_due(0, done, LINES):
            self._print(f"  {tuning_line(update)}")

    def training(self, update: "TrainingProgress") -> None:
        """Print a line if a step begins, or enough batches were trained on since the last one."""
        if self._is_due(update.step, update.iteration, update.iterations):
            parts = (_step(update), _batches(update), _loss(update), _accuracy(update), _left(update))
            self._print("  " + ", ".join(parts))

    def say(self, line: str) -> None:
        """Print the line."""
        self._print(f"  {line}")

    def shown(self) -> AbstractContextManager:
        """Return nothing to keep up."""
        return nullcontext()

    def _is_due(self, step: int, done: int, total: int) -> bool:
        now = (step, LINES * done // max(total, 1))
        due = now > self._last
        self._last = max(now, self._last)
        return due

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class LiveDisplay:
    """The stages that ended with their times, the one that runs, and below it the state of its work."""

    def __init__(self, console: Console):
        self._console = console
        self._ended: list[tuple[str, float]] = []
        self._stage: str | None = None
        self._since = time.monotonic()
        self._state: Table | None = None
        self._tuning: TuningProgress | None = None
        self._fall = Fall()
        self._spinner = Spinner("dots")

    def stage(self, name: str) -> None:
        """Move the running stage to those that ended and show the new one."""
        if self._stage is not None:
            self._ended.append((self._stage, time.monotonic() - self._since))
        self._stage, self._since, self._state = name, time.monotonic(), None
        self._tuning, self._fall = None, Fall()

    def tuning(self, update: "TuningProgress") -> None:
        """Show the newest state of a tuning session."""
        self._tuning = update
        if update.best_ms is not None:
            self._fall.add(update.at, update.best_ms)

    def training(self, update: "TrainingProgress") -> None:
        """Show the newest state of retraining."""
        parts = (_batches(update), _loss(update)), (_accuracy(update), _left(update))
        self._state = _state(_step(update), update.iteration, update.iterations, *map(", ".join, parts))

    def say(self, line: str) -> None:
        """Print the line above the display."""
        self._console.print(Text(f"  {line}"), soft_wrap=True)

    def shown(self) -> AbstractContextManager:
        """Return the live display; standard output is left alone."""
        return Live(
            console=self._console, get_renderable=self._render, refresh_per_second=4, redirect_stdout=False
        )

    def _render(self) -> Group:
        width, height = self._console.size
        ended = self._ended
        if self._tuning is not None:
            ended = ended[max(len(ended) - max(height - LEAST_VIEW, 0), 0) :]
        lines: list[object] = [
            _cut(width, ("  done ", "green"), name, (f"  {duration(seconds)}", "dim"))
            for name, seconds in ended
        ]
        if self._stage is not None:
            elapsed = duration(time.monotonic() - self._since)
            self._spinner.update(text=_cut(width - 2, (self._stage, "bold"), (f"  {elapsed}", "dim")))
            lines.append(self._spinner)
        if self._tuning is not None:
            lines += tuning_lines(self._tuning, self._fall, width, height - len(lines) - 1)
        if self._state is not None:
            lines.append(self._state)
        return Group(*lines)


def _cut(width: int, *parts: str | tuple[str, str]) -> Text:
    """Put together a line that is not broken in two."""
    line = Text.assemble(*parts, no_wrap=True)
    line.truncate(max(width, 1), overflow="ellipsis")
    return line


def _state(title: str, done: int, total: int, *lines: str) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("   ", Text(title, overflow="ellipsis", no_wrap=True))
    table.add_row("   ", ProgressBar(total=max(total, 1), completed=done, width=40))
    for line in lines:
        table.add_row("   ", Text(line))
    return table


def _step(update: "TrainingProgress") -> str:
    number = f"step {update.step + 1} of {update.steps}" if update.step < update.steps else "after all steps:"
    return f"{number} {_short(update.name)}"


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."


def _batches(update: "TrainingProgress") -> str:
    return f"batch {update.iteration:,} of {update.iterations:,}"


def _loss(update: "TrainingProgress") -> str:
    if not _known(update.loss):
        return "no loss yet"
    parts = ", ".join(f"{name} {value:.3g}" for name, value in update.losses.items())
    return f"loss {update.loss:.3g}{f' ({parts})' if parts else ''}"


def _accuracy(update: "TrainingProgress") -> str:
    now = metric_value(update.accuracy) if _known(update.accuracy) else "not measured yet"
    wanted, original = metric_value(update.wanted), metric_value(update.original)
    return f"{printable(update.metric)} {now}, wanted {wanted} (original {original})"


def _left(update: "TrainingProgress") -> str:
    return f"{duration(update.seconds_left)} left" if _known(update.seconds_left) else "time left unknown"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
