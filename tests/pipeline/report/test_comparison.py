"""Several targets side by side: the choice, what it rests on, and the pages."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from pipeline.report import model as m
from pipeline.report.comparison_model import Comparison, compared
from pipeline.report.comparison_pages import html, markdown, print_comparison, write_comparison
from pipeline.report.comparison_tables import comparison_tables, headline

Make = Callable[..., m.Report]


@pytest.fixture
def make(facts: dict) -> Make:
    """A function that returns a report of a target with these medians."""

    def make(name: str, original: float, merged: float, *, emulated: bool = False, **changes) -> m.Report:
        device = m.Device(measured_on=f"the {name} device", emulated=emulated, threads=2)
        latency = m.Compared[m.Latency](
            original=m.Latency(median=original, p90=original, runs=50, tuned_trials=8),
            merged=m.Latency(median=merged, p90=merged, runs=50, tuned_trials=8),
        )
        speedup, note = m.speedup_of(latency, device)
        measured = {"latency_ms": latency, "speedup": speedup, "speedup_note": note}
        target = facts["target"].model_copy(update={"name": name})
        return m.Report(**facts | measured | {"device": device, "target": target} | changes)

    return make


def shown(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    print_comparison(comparison, console, (Path("out"),))
    return console.file.getvalue()


def test_the_fastest_merged_network_is_chosen(make: Make):
    comparison = compared((make("host", 20.0, 9.0), make("opencl", 15.0, 6.0)), ("host", "opencl"))
    choice = comparison.choice
    assert (choice.target, choice.network, choice.folder) == ("opencl", "merged", "opencl/merged")
    assert choice.median_ms == 6.0
    assert "host takes 1.50x as long" in comparison.choice_note
    assert headline(comparison) == "Ship opencl/merged: the merged network for opencl, 6 ms"


def test_an_emulated_device_is_neither_chosen_nor_compared(make: Make):
    reports = make("host", 20.0, 9.0), make("mali-g76+host", 4.0, 2.0, emulated=True)
    comparison = compared(reports, ("host", "mali-g76-on-host"))
    assert comparison.choice.target == "host"
    assert "the only target that was measured on a real device" in comparison.choice_note
    assert "emulated times say nothing about a real device: mali-g76+host" in comparison.choice_note
    rows = {row[0]: row for row in comparison_tables(comparison)[0].rows}
    assert rows["mali-g76+host"][3] == "-"
    assert rows["mali-g76+host"][-1].endswith("emulated")


def test_nothing_is_chosen_where_all_is_emulated(make: Make):
    reports = tuple(make(name, 4.0, 2.0, emulated=True) for name in ("a", "b"))
    comparison = compared(reports, ("a", "b"))
    assert comparison.choice is None
    assert headline(comparison) == "No target is chosen"
    assert "so none is chosen" in shown(comparison)


def test_an_original_that_is_faster_is_told(make: Make):
    comparison = compared((make("host", 5.0, 9.0), make("opencl", 15.0, 6.0)), ("host", "opencl"))
    assert comparison.choice.target == "opencl"
    assert "the original network is faster still for host" in comparison.choice_note


def test_untrained_layers_are_not_advised_to_be_shipped(make: Make):
    untrained = {"structure_only": True, "notices": (m.FOR_TIMING_ONLY,)}
    reports = make("host", 20.0, 9.0, **untrained), make("opencl", 15.0, 6.0, **untrained)
    comparison = compared(reports, ("host", "opencl"))
    assert headline(comparison).startswith("The fastest, for timing only, opencl/merged")
    for page in (markdown(comparison), html(comparison), shown(comparison)):
        assert m.FOR_TIMING_ONLY in page


def test_a_wrong_choice_is_refused(make: Make):
    reports = make("host", 20.0, 9.0), make("opencl", 15.0, 6.0)
    right = compared(reports, ("host", "opencl"))
    wrong = right.choice.model_copy(update={"target": "host", "median_ms": 9.0})
    for choice in (wrong, None):
        with pytest.raises(ValidationError, match=r"fastest|chosen"):
            Comparison(**{**dict(right), "choice": choice})


def test_written_comparison_reads_back(make: Make, tmp_path: Path):
    reports = make("host", 20.0, 9.0), make("<b>|x", 15.0, 10.0)
    comparison = compared(reports, ("host", "x"))
    write_comparison(comparison, tmp_path)
    assert Comparison.model_validate_json((tmp_path / "report.json").read_text("utf-8")) == comparison
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Ship host/merged" in page.partition("<table")[0]
    assert "<b>" not in page
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.splitlines()[2].startswith("**Ship host/merged")
    assert shown(comparison).splitlines()[-1] == "written: out"


def test_launches_are_counted_before_and_after(make: Make):
    launches = m.Compared[int](original=41, merged=17)
    gpu = m.GpuNeeds(description="Mali-G76", kind="mali", max_threads=256, local_bytes=32768)
    target = make("x", 1, 1).target.model_copy(update={"device_type": "opencl", "gpu": gpu, "name": "gpu"})
    device = m.Device(measured_on="Mali-G76, OpenCL 2.0", emulated=False)
    report = make("gpu", 20.0, 9.0, launches=launches, target=target, device=device)
    comparison = compared((make("host", 20.0, 10.0), report), ("host", "gpu"))
    rows = comparison_tables(comparison)[0].rows
    assert [row[4] for row in rows] == ["-", "41 -> 17"]
    assert rows[1][-1] == "Mali-G76, OpenCL 2.0"
