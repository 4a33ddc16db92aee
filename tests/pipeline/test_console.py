import io
from dataclasses import dataclass, replace

import pytest
from rich.console import Console

from pipeline.console import Progress
from pipeline.report.tables import duration


@dataclass(frozen=True)
class Update:
    task_name: str = "fused_conv2d_add_relu"
    task_index: int = 0
    tasks_total: int = 4
    trials_done: int = 0
    trials_total: int = 400
    best_ms: float | None = None
    seconds_left: float | None = None


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def tune(progress: Progress, total: int = 400):
    for done in range(total + 1):
        progress.tuning(Update(trials_done=done, trials_total=total, best_ms=1.234, seconds_left=200.0))


def test_plain_lines_are_few():
    console = plain()
    with Progress(console=console) as progress:
        progress.stage("import the model")
        progress.stage("tune the original")
        tune(progress)
        progress.stage("tune the merged network")
        tune(progress)
    lines = console.file.getvalue().splitlines()
    assert lines[:2] == ["import the model", "tune the original"]
    assert len(lines) == 3 + 2 * 21
    assert lines[2] == (
        "  task 1 of 4 fused_conv2d_add_relu, 0 of 400 trials, best 1.23 ms for the network, 3 min 20 s left"
    )
    assert lines[-1].startswith("  task 1 of 4 fused_conv2d_add_relu, 400 of 400 trials")
    assert "\x1b" not in console.file.getvalue()


@pytest.mark.parametrize("unknown", [None, float("inf"), float("nan")])
def test_what_is_not_known_is_said_so(unknown: float | None):
    console = plain()
    with Progress(console=console) as progress:
        progress.tuning(Update(best_ms=unknown, seconds_left=unknown))
    assert console.file.getvalue().endswith("0 of 400 trials, no time yet, time left unknown\n")


def test_no_trials_at_all():
    console = plain()
    with Progress(console=console) as progress:
        progress.tuning(Update(trials_total=0))
    assert "0 of 0 trials" in console.file.getvalue()


def test_names_are_neither_markup_nor_control_codes():
    console = plain()
    with Progress(console=console) as progress:
        progress.stage("import [bold]x[/]\x1b[2J\nnext")
        progress.tuning(Update(task_name="[/]" + "y" * 200))
    first, second = console.file.getvalue().splitlines()
    assert first == "import [bold]x[/] [2J next"
    assert "[/]yyy" in second
    assert "yyy...," in second


def test_terminal_shows_stages_task_trials_best_and_time_left():
    console = Console(
        file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"}
    )
    with Progress(console=console) as progress:
        progress.stage("import")
        progress.stage("tune")
        progress.tuning(Update(trials_done=100, best_ms=0.5, seconds_left=75))
    last = console.file.getvalue().rpartition("\x1b[2K")[2]
    for shown in (
        "import",
        "tune",
        "task 1 of 4 fused_conv2d_add_relu",
        "100 of 400 trials, best 0.5 ms for the network",
    ):
        assert shown in console.file.getvalue()
    assert "1 min 15 s left" in last


def test_display_ends_with_the_error(capsys: pytest.CaptureFixture[str]):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with pytest.raises(KeyboardInterrupt):
        interrupted(console)
    assert console.file.getvalue().endswith("\x1b[?25h")
    assert capsys.readouterr().out == "for the machine\n"


def interrupted(console: Console):
    with Progress(console=console) as progress:
        progress.stage("tune")
        print("for the machine")
        raise KeyboardInterrupt


def test_default_is_standard_error(capsys: pytest.CaptureFixture[str]):
    with Progress() as progress:
        progress.stage("import")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "import\n")


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]):
    with Progress(quiet=True) as progress:
        progress.stage("import")
        progress.tuning(replace(Update(), trials_done=3))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text


def test_a_terminal_without_unicode_gets_plain_lines():
    raw = io.BytesIO()
    console = Console(
        file=io.TextIOWrapper(raw, encoding="ascii"), force_terminal=True, _environ={"TERM": "xterm"}
    )
    with Progress(console=console) as progress:
        progress.stage("tune")
        progress.tuning(Update(task_name="y" * 200))
    console.file.flush()
    assert raw.getvalue().splitlines()[0] == b"tune"
