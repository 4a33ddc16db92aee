"""Runs a command and turns what it raises into one line and an exit code.

0: done. 1: a failure of ours or of the device. 2: a user's mistake. 130: Ctrl-C or SIGTERM, with everything
measured, and trained up to the last checkpoint, kept.
"""

import signal
import sys
from types import FrameType

import typer

from pipeline.cli import deploy, devices, doctor, export, inspect, report, retrain, runtime, targets, tune
from pipeline.errors import UserError

FAILURE, MISTAKE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="deeprebirth",
    help="Merge, retrain, tune and compile CNNs for phones and embedded boards.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(deploy.deploy)
app.command()(inspect.inspect)
app.command("merge")(export.export)
app.command("export")(export.export)
app.command()(retrain.retrain)
app.command()(tune.tune)
app.command()(report.report)
app.command()(devices.tracker)
app.command()(devices.serve)
app.command()(devices.devices)
app.command()(runtime.runtime)
app.command()(targets.targets)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    interruption = _Interruption()
    try:
        code = app(arguments or ["--help"], prog_name="deeprebirth", standalone_mode=False) or 0
    except typer.TyperException as error:
        return _told(error.format_message(), MISTAKE)
    except UserError as error:
        return _told(str(error), MISTAKE)
    except Exception as error:
        return interruption.told() if interruption.came else _failure(error)
    return interruption.told() if interruption.came else code


class _Interruption:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and remembers that one came.

    Where Python is called from TVM's C++, the interrupt comes out as an error of another kind.
    """

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def told(self) -> int:
        return _told(
            "interrupted; what was measured, and what was trained up to the last checkpoint, is kept, "
            "and the same command goes on from there",
            INTERRUPTED,
        )

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


def _failure(error: Exception) -> int:
    """Tell of an error from the packages below, which are imported by now if they raised it."""
    from pipeline.verification import NotVerified
    from targets import TargetError
    from tuning.errors import Mistake, TuningError

    if isinstance(error, TargetError | Mistake):
        return _told(str(error), MISTAKE)
    if isinstance(error, TuningError | NotVerified):
        return _told(str(error), FAILURE)
    raise error


def _told(message: str, code: int) -> int:
    print(f"deeprebirth: {' '.join(message.split())}", file=sys.stderr)
    return code
