import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipeline.errors import UserError
from pipeline.report.session import report_of
from pipeline.report.session_chart import session_charts
from pipeline.report.session_model import SessionFacts, SessionsReport
from pipeline.report.session_render import html, markdown, write_sessions
from pipeline.report.session_tables import MOST_NOTES, MOST_TASKS, STAGES, headline, session_tables
from pipeline.report.session_terminal import print_sessions
from tuning.failures import Cause
from tuning.progress import (
    DeviceProgress,
    Line,
    Note,
    SessionEnded,
    SessionStarted,
    Stage,
    TaskProgress,
    Trial,
    TuningProgress,
)
from tuning.session_log import SessionLog

HOSTILE = "<script>alert(1)</script>|`x` [a](b) {{ 7*7 }} \x1b[31m"
DEVICES = ("10.0.0.1:9090", "10.0.0.2:9090")


def started(network: str = "net", **more: object) -> SessionStarted:
    facts = {
        "time": "2026-01-02T03:04:05+00:00",
        "network": network,
        "target": "host",
        "measured_on": "Test CPU, 2 threads",
        "emulated": False,
        "versions": {"apache-tvm": "0.27.0"},
        "trials": 6,
        "time_budget": None,
        "reused": 10,
    }
    return SessionStarted(**facts | more)


def progress(at: float, conv: float | None, pool: float | None = 100.0, **more: object) -> TuningProgress:
    """A state of two tasks: `conv` is called twice, and computes 3e6 operations."""
    known = conv is not None and pool is not None
    facts = {
        "tasks": (
            TaskProgress(name="pool", weight=1, flop=0.0, trials=2, failed=0, best_us=pool, stopped=True),
            TaskProgress(name="conv", weight=2, flop=3e6, trials=4, failed=1, best_us=conv),
        ),
        "trials_done": 10 + int(at),
        "trials_total": 16,
        "best_ms": (2 * conv + pool) / 1e3 if known else None,
        "devices": tuple(DeviceProgress(address=each, status="free") for each in DEVICES),
        "stages": {"search": at / 2, "measure": at / 4, "idle": 0.0},
        "peak_gflops": 80.0,
    }
    return TuningProgress(at=at, **facts | more)


STORY: tuple[Line, ...] = (
    progress(0.0, None),
    Trial(at=1.0, task="conv", seconds=(4e-4,), device=DEVICES[0], outliers=2),
    progress(1.0, 400.0),
    Trial(at=2.0, task="conv", cause=Cause.TIMED_OUT, detail="took longer than 10 s", device=DEVICES[1]),
    progress(2.0, 400.0),
    Trial(at=3.0, task="pool", seconds=(1e-4,), device=DEVICES[0], steady=False),
    Note(at=3.5, about="throttling", text="10.0.0.1:9090 is throttling"),
    Note(at=3.6, about="banned", text="conv: a schedule computes something else"),
    Trial(at=4.0, task="conv", seconds=(5e-5,), device=DEVICES[1]),
    progress(4.0, 75.0),
)
END = SessionEnded(at=8.0, reason="trials made")


def write(path: Path, *lines: Line) -> Path:
    with SessionLog(path) as log:
        for line in lines:
            log.write(line)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "Protokoll für Zoë.jsonl", started(), *STORY, END)


def only(path: Path) -> SessionFacts:
    (session,) = report_of([path]).sessions
    return session


def cells(report: SessionsReport, title: str) -> Sequence[Sequence[str]]:
    (table,) = [each for each in session_tables(report) if each.title == title]
    return table.rows


def test_latency_against_time_and_trials(log: Path):
    session = only(log)
    assert [(point.at, point.trials, point.ms) for point in session.latency] == [(1, 1, 0.9), (4, 4, 0.25)]
    assert (session.first_ms, session.best_ms, session.seconds) == (0.9, 0.25, 8.0)


def test_where_the_trials_went_and_what_each_task_gained(log: Path):
    conv, pool = only(log).tasks
    assert (conv.name, conv.calls, conv.trials, conv.failed) == ("conv", 2, 3, 1)
    assert (conv.first_us, conv.best_us, conv.share) == (400.0, 75.0, 0.6)
    assert (conv.gflops, conv.of_peak) == (40.0, 0.5)
    assert (pool.trials, pool.failed, pool.stopped) == (1, 0, True)
    rows = cells(report_of([log]), "Tasks of net")
    assert rows[0] == ("conv", "2", "3", "1", "0.4 ms", "0.075 ms", "-81 %", "60 %", "40", "50 %")
    assert rows[1][2] == "1 (stopped)"


def test_failures_devices_stages_and_notes(log: Path):
    report = report_of([log])
    assert cells(report, "Trials that failed") == (("net", "timed out", "1", "25 %"),)
    assert cells(report, "Devices") == (
        ("net", DEVICES[0], "free", "2", "0"),
        ("net", DEVICES[1], "free", "2", "1"),
    )
    assert cells(report, "Stages") == (("net", "25 %", "-", "12 %", "-", "0 %"),)
    assert cells(report, "Notes of net") == (
        ("4 s", "throttling", "10.0.0.1:9090 is throttling"),
        ("4 s", "banned", "conv: a schedule computes something else"),
    )
    assert (report.sessions[0].outliers, report.sessions[0].unsteady) == (2, 1)


def test_every_stage_has_its_column():
    assert set(STAGES) == set(get_args(Stage))


def test_it_says_what_it_was_measured_on(log: Path):
    for page in pages(report_of([log])):
        assert "Test CPU, 2 threads" in page
        assert "0.9 ms -> 0.25 ms, estimated, on Test CPU, 2 threads" in page
        assert "Notice" not in page


def test_a_log_without_an_end_says_so(tmp_path: Path):
    report = report_of([write(tmp_path / "log", started(), *STORY)])
    assert report.sessions[0].end is None
    assert report.sessions[0].seconds == 4.0
    for page in pages(report):
        assert "net has no end in its log: it was killed, or not done yet" in " ".join(page.split())


def test_emulated_times_are_labelled_and_no_change_is_claimed(tmp_path: Path):
    start = started(measured_on="cortex-a72", emulated=True)
    report = report_of([write(tmp_path / "log", start, *STORY, END)])
    assert cells(report, "What was found")[0][1:4] == ("0.9 ms (emulated)", "0.25 ms (emulated)", "-")
    assert {row[6] for row in cells(report, "Tasks of net")} == {"-"}
    assert headline(report).endswith("on cortex-a72, emulated")
    assert report.notices == ("net: cortex-a72 is emulated, and its times say nothing about a real device",)
    latency, tasks = (" ".join(ET.fromstring(chart).itertext()) for chart in session_charts(report))
    assert "net on cortex-a72, emulated" in latency
    assert "first and best, emulated" in tasks


def test_several_logs_lie_over_each_other(log: Path, tmp_path: Path):
    other = write(tmp_path / "other", started("merged", measured_on="Another CPU"), *STORY, END)
    write(other, started("merged"), *STORY)
    (tmp_path / "folder").mkdir()
    report = report_of([log, other, tmp_path / "folder" / ".." / log.name])
    assert [each.label for each in report.sessions] == ["1. net", "2. merged", "3. merged"]
    assert [(each.sessions, each.bad_lines) for each in report.logs] == [(1, 0), (2, 0)]
    chart = " ".join(ET.fromstring(session_charts(report)[0]).itertext())
    for name in ("1. net on Test CPU", "2. merged on Another CPU", "3. merged on Test CPU"):
        assert name in chart
    assert not any(each.continues for each in report.sessions)


def test_a_session_goes_on_where_the_killed_one_was(tmp_path: Path):
    """Whether their logs are one file or several, and in whatever order those are given."""
    last = write(tmp_path / "last", started(time="2026-01-05", reused=8), *STORY, END)
    write(last, started(time="2026-01-06", reused=0), *STORY, END)
    path = write(tmp_path / "log", started(time="2026-01-02", reused=0), *STORY)
    write(path, started("merged", time="2026-01-03", reused=4), *STORY, END)
    write(path, started(time="2026-01-04", reused=4), *STORY)
    report = report_of([last, path])
    first, other, second, third, fresh = report.sessions
    assert [each.continues for each in (first, other, fresh)] == [None, None, None]
    assert (second.continues, second.seconds_before, second.trials_before) == ("1. net", 4.0, 4)
    assert (third.continues, third.seconds_before, third.trials_before) == ("3. net", 8.0, 8)
    assert "continues 3. net" in cells(report, "What was tuned")[3][3]
    chart = " ".join(ET.fromstring(session_charts(report)[0]).itertext())
    assert [f"{number}." in chart for number in range(1, 6)] == [True, True, False, False, True]


def test_a_night_of_many_sessions_is_drawn(tmp_path: Path):
    for _ in range(20):
        path = write(tmp_path / "log", started(reused=0), *STORY)
    report = report_of([path])
    chart = " ".join(ET.fromstring(session_charts(report)[0]).itertext())
    assert [f" {each.label} on" in chart for each in report.sessions] == [False] * 12 + [True] * 8
    assert "newest 8 of 20 sessions" in chart


def test_lines_that_cannot_be_used_are_told(log: Path):
    log.write_bytes(log.read_bytes()[:-30])
    (notice,) = [each for each in report_of([log]).notices if "not be used" in each]
    assert notice.endswith("1 line could not be used: line 12 is cut or damaged: it is no JSON")


def test_a_session_that_was_killed_at_once(tmp_path: Path):
    report = report_of([write(tmp_path / "log", started())])
    assert session_charts(report) == ()
    assert headline(report) == "No time for the network yet: some task has no schedule that runs"
    for page in pages(report):
        assert "no state of its tasks was logged" in page


def test_a_session_that_spent_no_trials(tmp_path: Path):
    report = report_of([write(tmp_path / "log", started(trials=0), progress(0.0, 50.0), END)])
    assert headline(report) == "0.2 ms, estimated, on Test CPU, 2 threads"
    assert len(session_charts(report)) == 2


def test_a_time_budget_is_shown(tmp_path: Path):
    report = report_of([write(tmp_path / "log", started(trials=None, time_budget=1800), *STORY, END)])
    assert "30 min 0 s" in cells(report, "What was tuned")[0]


def test_why_a_session_failed_is_shown(tmp_path: Path):
    end = SessionEnded(at=9, reason="failed", detail="no device serves the key 'pi'")
    report = report_of([write(tmp_path / "log", started(), *STORY, end)])
    assert "failed: no device serves the key 'pi'" in cells(report, "What was tuned")[0]


def test_long_tables_are_cut_and_say_so(tmp_path: Path):
    tasks = tuple(
        TaskProgress(name=f"t{number}", weight=1, flop=1, trials=1, failed=0, best_us=100)
        for number in range(MOST_TASKS + 5)
    )
    notes = [Note(at=number, text=f"note {number}") for number in range(MOST_NOTES + 7)]
    state = TuningProgress(at=1, tasks=tasks, trials_done=0, trials_total=1, best_ms=2.5)
    report = report_of([write(tmp_path / "log", started(), state, *notes, END)])
    assert cells(report, "Tasks of net")[-1] == ("5 others", "", "0", "0", "", "", "", "20 %", "", "")
    assert cells(report, "Notes of net")[-1][2] == f"note {MOST_NOTES + 6}"
    assert "7 older ones are in report.json" in markdown(report)
    assert len(report.sessions[0].notes) == MOST_NOTES + 7


def test_written_pages_read_back_and_replace_older_ones(log: Path, tmp_path: Path):
    out = tmp_path / "Bericht für Zoë"
    report = report_of([log])
    for _ in range(2):
        files = write_sessions(report, out)
        assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
        assert SessionsReport.model_validate_json(files[0].read_text(encoding="utf-8")) == report


@pytest.mark.parametrize("name", ["notes.txt", "original", "log.jsonl"])
def test_a_directory_with_something_else_is_left_alone(log: Path, tmp_path: Path, name: str):
    (out := tmp_path / "deployed").mkdir()
    (out / name).write_text("mine")
    (out / ".deeprebirth").write_text(json.dumps([name, ".deeprebirth"]))
    with pytest.raises(UserError, match=f"holds more than a report .{name}"):
        write_sessions(report_of([log]), out)
    assert (out / name).read_text() == "mine"


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list):
        self.tags.append(tag)

    def handle_data(self, data: str):
        self.text += data


def pages(report: SessionsReport) -> tuple[str, str, str]:
    console = Console(file=StringIO(), width=200, force_terminal=False)
    print_sessions(report, console)
    return (
        markdown(report).replace("\\", "").replace("&gt;", ">"),
        Page(html(report)).text,
        console.file.getvalue(),
    )


@pytest.fixture
def hostile(tmp_path: Path) -> SessionsReport:
    start = started(HOSTILE, measured_on=HOSTILE, versions={HOSTILE: HOSTILE}, target=HOSTILE)
    task = TaskProgress(name=HOSTILE + "$\\frac{", weight=1, flop=1, trials=1, failed=0, best_us=1)
    device = DeviceProgress(address=HOSTILE, status="gone")
    state = TuningProgress(at=1, tasks=(task,), trials_done=1, trials_total=1, best_ms=1, devices=(device,))
    lines = (Note(at=1, text=HOSTILE), SessionEnded(at=2, reason="failed", detail=HOSTILE))
    path = write(tmp_path / HOSTILE.replace("/", ""), start, state, *lines)
    path.write_bytes(path.read_bytes() + HOSTILE.encode())
    return report_of([path])


def test_names_are_escaped_on_every_page(hostile: SessionsReport, log: Path):
    page = Page(html(hostile))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>|`x`" in page.text
    assert "<script" not in markdown(hostile)
    for text in (*pages(hostile), html(hostile)):
        assert "\x1b" not in text
    rows = [line.replace(r"\|", "") for line in markdown(hostile).splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} <= {len(t.header) + 1 for t in session_tables(hostile)}


def test_html_needs_nothing_beside_it(log: Path):
    text = html(report_of([log]))
    assert Page(text).tags.count("svg") == 2
    for outside in ("<link", "<img", "src=", "@import"):
        assert outside not in text


NUMBERS = st.sampled_from([0.0, 1e-18, 1e-9, 0.5, 1.0, 3e4, 1e18])
TIMES = st.none() | st.sampled_from([1e-18, 1e-3, 1.0, 7.5, 1e18])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.tuples(NUMBERS, TIMES, TIMES, TIMES), min_size=1, max_size=4),
    flop=NUMBERS,
    peak=TIMES,
    weight=st.sampled_from([0, 1, 1 << 53]),
)
def test_any_numbers_make_a_report(
    tmp_path: Path, states: list, flop: float, peak: float | None, weight: int
):
    lines = [
        TuningProgress(
            at=at,
            tasks=tuple(
                TaskProgress(name=name, weight=weight, flop=flop, trials=0, failed=0, best_us=us)
                for name, us in (("a", first), ("b", second))
            ),
            trials_done=3,
            trials_total=None,
            best_ms=ms,
            peak_gflops=peak,
            stages={"idle": at},
        )
        for at, first, second, ms in states
    ]
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    report = report_of([write(path, started(), *lines)])
    assert SessionsReport.model_validate_json(report.model_dump_json()) == report
    for chart in session_charts(report):
        ET.fromstring(chart)
    assert all(pages(report))
