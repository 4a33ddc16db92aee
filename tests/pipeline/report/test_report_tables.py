import pytest

from pipeline.report import tables as t
from pipeline.report.model import Accuracy, Compared, Kernel, Report


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


def test_kernels_with_their_share_before_and_after(facts: dict):
    kernels = tuple(
        Kernel(name=name, calls=calls, launches=2 * calls, microseconds=time)
        for name, calls, time in (("conv2d", 3, 150.0), ("pool", 1, 50.0))
    )
    both = Compared[tuple[Kernel, ...]](original=kernels, merged=kernels[:1])
    before, after = t.tables(Report(**facts | {"kernels": both}))[-3:-1]
    assert before.title == "Kernels of the original network"
    assert before.rows == (("conv2d", "3", "6", "150 us", "75.0 %"), ("pool", "1", "2", "50 us", "25.0 %"))
    assert after.rows == (("conv2d", "3", "6", "150 us", "100.0 %"),)
    assert "Test CPU" in after.note


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


def test_accuracy_step_by_step(retrained: Report):
    table = t.tables(retrained)[1]
    assert table.title == "Accuracy"
    assert table.rows == (
        ("conv1", "91.25", "40.50", "91.00", "1,250", "1 min 15 s", "kept"),
        (
            *("inception_3a", "91.00", "40.50", "87.50", "1,250", "1 min 15 s"),
            "undone: lost 3.5 points after 2 epochs",
        ),
    )
    assert "measured on 1,000 samples of digits/val" in table.note
    assert "could not be read: 2 validation samples of digits/val: a b.png, c.png." in table.note
    assert t.tables(retrained)[2].rows[0][2] == "retrained"


def test_accuracy_in_one_line(accuracy: Accuracy):
    assert (
        t.change_of(accuracy)
        == "top-1 91.25 -> 91.00, 0.25 points less, on 1,000 validation samples of digits/val"
    )
    better = accuracy.model_copy(update={"after": 91.5, "drop": -0.25})
    assert "0.25 points more" in t.change_of(better)
    same = accuracy.model_copy(update={"after": 91.25, "drop": 0.0})
    assert "91.25 -> 91.25, the same," in t.change_of(same)
    assert t.change_of(Accuracy()) == "accuracy was not measured"


@pytest.mark.parametrize(("value", "text"), [(91.256, "91.26"), (100.0, "100.00"), (0.97314, "0.9731")])
def test_metric_value(value: float, text: str):
    assert t.metric_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str):
    assert t.duration(seconds) == text


def test_accuracy_is_never_implied(report: Report):
    assert ("Accuracy", "accuracy was not measured") in t.tables(report)[-1].rows
