import pytest

from pipeline.report import tables as t
from pipeline.report.model import Report


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1 K"), (1_580_000_000, "1.58 G"), (589_400_000, "589 M")],
)
def test_count(value: float, text: str):
    assert t.count(value) == text


def test_size_and_time():
    assert t.size(512) == "512 B"
    assert t.size(27_994_208) == "28 MB"
    assert t.milliseconds(71.44) == "71.4 ms"
    assert t.milliseconds(None) == t.NOTHING


def test_printable_hides_nothing_and_controls_nothing():
    assert t.printable("a\nb\x1b[31mc\u202ed é 卷积") == "a b [31mc d é 卷积"


def test_comparison_says_what_it_was_measured_on(report: Report):
    comparison = t.tables(report)[0]
    assert comparison.rows[0] == ("Latency, median", "20 ms", "8 ms", "-60 %")
    assert "Test CPU, Linux x86_64, 2 threads" in comparison.note


def test_emulated_times_are_labelled_and_not_compared(emulated: Report):
    comparison = t.tables(emulated)[0]
    timed = [row for row in comparison.rows if row[0].startswith("Latency")]
    assert len(timed) == 3
    assert all("emulated" in row[0] and row[3] == t.NOTHING for row in timed)
    assert "emulated" in comparison.note
    assert t.headline(emulated) == "No speed-up is claimed"


def test_untrained_layers_are_called_so(report: Report, structure_only: Report):
    assert t.tables(report)[1].rows[0][2] == "exact"
    assert t.tables(structure_only)[1].rows[0][2] == "untrained"


def test_accuracy_is_never_implied(report: Report):
    assert ("Accuracy", "accuracy was not measured") in t.tables(report)[-1].rows
