import io

import pytest
from rich.console import Console

from pipeline.console import Progress
from pipeline.retraining.progress import TrainingProgress
from tuning.progress import TaskProgress, TuningProgress


def learning(step: int, iteration: int, **known: object) -> TrainingProgress:
    facts = {"steps": 3, "name": "inception_3a", "iterations": 1000, "batches_before": 0, "metric": "top-1"}
    return TrainingProgress(step=step, iteration=iteration, original=91.25, wanted=90.85, **facts, **known)


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def state(
    done: int, total: int | None = 400, name: str = "fused_conv2d_add_relu", **known: object
) -> TuningProgress:
    task = TaskProgress(name=name, weight=1, flop=1e9, trials=done, failed=0, best_us=1234)
    facts = {"at": float(done), "best_ms": 1.234, "seconds_left": 200.0} | known
    return TuningProgress(tasks=(task,), current=0, trials_done=done, trials_total=total, **facts)


def tune(progress: Progress, total: int = 400):
    for done in range(total + 1):
        progress.tuning(state(done, total))


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
        "  task 1 of 1 fused_conv2d_add_relu, 0 of 400 trials, best 1.23 ms for the network, 3 min 20 s left"
    )
    assert lines[-1].startswith("  task 1 of 1 fused_conv2d_add_relu, 400 of 400 trials")
    assert "\x1b" not in console.file.getvalue()


@pytest.mark.parametrize(("left", "lines"), [(lambda at: 600.0 - at, 21), (lambda at: None, 11)])
def test_plain_lines_of_a_session_with_a_time_budget_are_few(left, lines: int):
    console = plain()
    with Progress(console=console) as progress:
        for second in range(601):
            progress.tuning(state(second, None, seconds_left=left(second)))
    assert len(console.file.getvalue().splitlines()) == lines


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 24), (40, 12), (20, 6), (5, 2)])
def test_the_live_view_of_a_session_fits_the_terminal(width: int, height: int):
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, _environ={"TERM": "xterm"}
    )
    with Progress(console=console) as progress:
        for number in range(12):
            progress.stage(f"stage {number}")
        progress.tuning(state(100))
    shown = console.file.getvalue().rpartition("\x1b[2K")[2]
    assert "100"[: width - 3] in shown
    assert shown.count("\n") <= height


def test_a_new_stage_begins_without_the_state_of_the_last_one():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with Progress(console=console) as progress:
        progress.stage("tune")
        progress.tuning(state(100))
        progress.stage("compile")
    assert "of 400 trials" not in console.file.getvalue().rpartition("compile")[2]


def test_what_is_not_known_is_said_so():
    console = plain()
    with Progress(console=console) as progress:
        progress.tuning(state(0, best_ms=None, seconds_left=None))
    assert console.file.getvalue().endswith("0 of 400 trials, no time yet, time left unknown\n")


def test_no_trials_at_all():
    console = plain()
    with Progress(console=console) as progress:
        progress.tuning(state(0, 0))
    assert "0 of 0 trials" in console.file.getvalue()


def test_plain_lines_of_a_retraining_are_few():
    console = plain()
    with Progress(console=console) as progress:
        progress.stage("Retraining")
        for step in range(3):
            for iteration in range(0, 1001, 2):
                progress.training(learning(step, iteration))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 1 + 3 * 21
    assert [line for line in lines if "batch 0 of 1,000" in line][2].startswith(
        "  step 3 of 3 inception_3a, "
    )


def test_a_state_of_retraining_says_all_of_it():
    console = plain()
    known = {"loss": 1.25, "losses": {"feature": 1.0, "label": 0.25}, "accuracy": 90.5, "seconds_left": 200.0}
    with Progress(console=console) as progress:
        progress.training(learning(0, 0))
        progress.training(learning(0, 500, **known))
    assert console.file.getvalue().splitlines() == [
        "  step 1 of 3 inception_3a, batch 0 of 1,000, no loss yet, "
        "top-1 not measured yet, wanted 90.85 (original 91.25), time left unknown",
        "  step 1 of 3 inception_3a, batch 500 of 1,000, loss 1.25 (feature 1, label 0.25), "
        "top-1 90.50, wanted 90.85 (original 91.25), 3 min 20 s left",
    ]


def test_what_is_said_stays_on_a_line_of_its_own():
    for terminal in (False, True):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=60, _environ={"TERM": "xterm"})
        with Progress(console=console) as progress:
            progress.stage("Retraining")
            progress.say(
                "out of memory:\nthe batch is 32 [bold]now[/] instead of 64 samples, as said in a line"
            )
        assert "out of memory: the batch is 32 [bold]now[/]" in console.file.getvalue()


def test_a_terminal_shows_loss_accuracy_and_time_left():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, _environ={"TERM": "xterm"})
    with Progress(console=console) as progress:
        progress.stage("Retraining")
        progress.training(learning(1, 40, loss=0.5, accuracy=90.5, seconds_left=75))
    for shown in (
        "step 2 of 3 inception_3a",
        "batch 40 of 1,000, loss 0.5",
        "top-1 90.50",
        "1 min 15 s left",
    ):
        assert shown in console.file.getvalue()


def test_names_are_neither_markup_nor_control_codes():
    console = plain()
    with Progress(console=console) as progress:
        progress.stage("import [bold]x[/]\x1b[2J\nnext")
        progress.tuning(state(0, name="[/]" + "y" * 200))
    first, second = console.file.getvalue().splitlines()
    assert first == "import [bold]x[/] [2J next"
    assert "[/]yyy" in second
    assert "yyy...yyy" in second


def test_terminal_shows_stages_task_trials_best_and_time_left():
    console = Console(
        file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"}
    )
    with Progress(console=console) as progress:
        progress.stage("import")
        progress.stage("tune")
        progress.tuning(state(100, best_ms=0.5, seconds_left=75))
    last = console.file.getvalue().rpartition("\x1b[2K")[2]
    for shown in (
        "import",
        "tune",
        "100 of 400 trials, 1 min 15 s left",
        "best 0.5 ms for the network",
        "fused_conv2d_add_relu  ",
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
        progress.tuning(state(3))
        progress.training(learning(0, 0))
        progress.say("nothing")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_without_unicode_gets_plain_lines():
    raw = io.BytesIO()
    console = Console(
        file=io.TextIOWrapper(raw, encoding="ascii"), force_terminal=True, _environ={"TERM": "xterm"}
    )
    with Progress(console=console) as progress:
        progress.stage("tune")
        progress.tuning(state(0, name="y" * 200))
    console.file.flush()
    assert raw.getvalue().splitlines()[0] == b"tune"
