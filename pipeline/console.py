"""Show how far a deployment is, on standard error.

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

from pipeline.report.tables import milliseconds, printable

if TYPE_CHECKING:
    from tuning.tuner import TuningProgress

LINES = 20
NAME_WIDTH = 60


class Display(Protocol):
    """One way to show progress."""

    def stage(self, name: str) -> None:
        """Show that a stage begins and that the one before it has ended."""

    def tuning(self, update: "TuningProgress") -> None:
        """Show how far tuning is."""

    def shown(self) -> AbstractContextManager:
        """Return what keeps the display up."""


class Progress:
    """What a deployment reports its stages and its tuning to.

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
        """Tell how far tuning is."""
        self._display.tuning(update)

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

    def shown(self) -> AbstractContextManager:
        """Return nothing to keep up."""
        return nullcontext()


class PlainLines:
    """A line for each stage, and one for about every twentieth of the trials."""

    def __init__(self, console: Console):
        self._console = console
        self._last = -1

    def stage(self, name: str) -> None:
        """Print the stage's name."""
        self._last = -1
        self._print(name)

    def tuning(self, update: "TuningProgress") -> None:
        """Print a line if enough trials were measured since the last one."""
        step = LINES * update.trials_done // max(update.trials_total, 1)
        if step > self._last:
            self._last = step
            self._print("  " + ", ".join((_task(update), _trials(update), _best(update), _left(update))))

    def shown(self) -> AbstractContextManager:
        """Return nothing to keep up."""
        return nullcontext()

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


class LiveDisplay:
    """The stages that ended with their times, the one that runs, and below it the state of tuning."""

    def __init__(self, console: Console):
        self._console = console
        self._ended: list[tuple[str, float]] = []
        self._stage: str | None = None
        self._since = time.monotonic()
        self._update: TuningProgress | None = None
        self._spinner = Spinner("dots")

    def stage(self, name: str) -> None:
        """Move the running stage to those that ended and show the new one."""
        if self._stage is not None:
            self._ended.append((self._stage, time.monotonic() - self._since))
        self._stage, self._since, self._update = name, time.monotonic(), None

    def tuning(self, update: "TuningProgress") -> None:
        """Show the newest state of tuning."""
        self._update = update

    def shown(self) -> AbstractContextManager:
        """Return the live display; standard output is left alone."""
        return Live(
            console=self._console, get_renderable=self._render, refresh_per_second=4, redirect_stdout=False
        )

    def _render(self) -> Group:
        lines: list[object] = [
            Text.assemble(("  done ", "green"), name, (f"  {duration(seconds)}", "dim"))
            for name, seconds in self._ended
        ]
        if self._stage is not None:
            elapsed = duration(time.monotonic() - self._since)
            self._spinner.update(text=Text.assemble((self._stage, "bold"), (f"  {elapsed}", "dim")))
            lines.append(self._spinner)
        if self._update is not None:
            lines.append(_state(self._update))
        return Group(*lines)


def duration(seconds: float) -> str:
    """Return a time as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _state(update: "TuningProgress") -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row("   ", Text(_task(update), overflow="ellipsis", no_wrap=True))
    bar = ProgressBar(total=max(update.trials_total, 1), completed=update.trials_done, width=40)
    table.add_row("   ", bar)
    table.add_row("   ", Text(", ".join((_trials(update), _best(update), _left(update)))))
    return table


def _task(update: "TuningProgress") -> str:
    name = printable(update.task_name)
    name = name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."
    return f"task {update.task_index + 1} of {update.tasks_total} {name}"


def _trials(update: "TuningProgress") -> str:
    return f"{update.trials_done} of {update.trials_total} trials"


def _best(update: "TuningProgress") -> str:
    return f"best {milliseconds(update.best_ms)} for the network" if _known(update.best_ms) else "no time yet"


def _left(update: "TuningProgress") -> str:
    return f"{duration(update.seconds_left)} left" if _known(update.seconds_left) else "time left unknown"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
