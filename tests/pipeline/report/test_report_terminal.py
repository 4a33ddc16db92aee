import io
from pathlib import Path

from rich.console import Console

from pipeline.report.model import Accuracy, Report
from pipeline.report.terminal import print_accuracy, print_report


def shown(report: Report, written: tuple[Path, ...] = (), width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_report(report, console, written)
    return console.file.getvalue()


def test_shows_every_figure(report: Report):
    text = shown(report)
    for figure in ("20 ms", "8 ms", "22.5 ms", "1.58 G", "590 M", "7.4 M", "9.6 MB", "1.4 MB", "29.6 MB"):
        assert figure in text
    assert "Times measured on Test CPU, Linux x86_64, 2 threads" in text
    assert "2.50x the speed of the original" in text
    assert "accuracy was not measured" in text
    assert "no convolution" in text


def test_shows_accuracy_step_by_step(retrained: Report, accuracy: Accuracy, tmp_path: Path):
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    print_accuracy(accuracy, console, (tmp_path / "network.onnx",))
    for text in (shown(retrained, width=120), console.file.getvalue()):
        assert "inception_3a" in text
        assert "undone: lost 3.5 points after 2 epochs" in text
        assert "91.25 -> 91.00, 0.25 points less, on 1,000 validation samples" in text
    assert console.file.getvalue().splitlines()[-1] == f"written: {tmp_path / 'network.onnx'}"
    assert "accuracy was not measured" not in shown(retrained)


def test_notice_is_near_the_end(structure_only: Report, tmp_path: Path):
    lines = shown(structure_only, (tmp_path / "report.json",)).splitlines()
    assert any("reborn layers not trained: for timing only" in line for line in lines[-10:])
    assert lines[-1] == f"written: {tmp_path / 'report.json'}"


def test_names_are_not_markup_or_control_codes(facts: dict):
    refusal = facts["refusals"][0].model_copy(update={"name": "[bold]x[/]\x1b[31m", "reason": "[/nothing]"})
    text = shown(Report(**facts | {"refusals": (refusal,)}), width=200)
    assert "[bold]x[/] [31m" in text
    assert "[/nothing]" in text
    assert "\x1b" not in text


def test_a_narrow_terminal_still_shows_numbers_whole(report: Report):
    assert "3 M -> 2 M" in shown(report, width=60)


def test_a_terminal_without_unicode_shows_it_all(report: Report):
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80)
    print_report(report, console)
    console.file.flush()
    assert b"2.50x the speed of the original" in raw.getvalue()
