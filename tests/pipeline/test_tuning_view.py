import io
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipeline.console import LiveDisplay
from pipeline.tuning_view import SPARK_WIDTH, Fall, share_done, tuning_line, tuning_lines
from tuning.failures import Cause
from tuning.progress import DeviceProgress, TaskProgress, TuningProgress


def task(name: str, best_us: float | None = 100.0, **more: object) -> TaskProgress:
    facts = {"weight": 1, "flop": 1e8, "trials": 8, "failed": 0} | more
    return TaskProgress(name=name, best_us=best_us, **facts)


def state(*tasks: TaskProgress, **more: object) -> TuningProgress:
    facts = {"at": 100.0, "trials_done": 40, "trials_total": 1000, "seconds_left": 300.0} | more
    return TuningProgress(tasks=tasks or (task("conv"),), **facts)


def shown(
    update: TuningProgress, width: int = 100, height: int = 30, fall: Sequence[float] = ()
) -> list[str]:
    course = Fall()
    for at, value in enumerate(fall):
        course.add(float(at), value)
    return [line.plain for line in tuning_lines(update, course, width, height)]


def rows(update: TuningProgress, **size: int) -> list[str]:
    lines = shown(update, **size)
    return lines[lines.index("") + 1 :]


def test_tasks_come_with_share_best_speed_and_share_of_the_peak():
    update = state(
        task("small", best_us=100.0, weight=1),
        task("large", best_us=100.0, weight=3, flop=1e7, trials=1234),
        peak_gflops=200.0,
    )
    header, large, small = rows(update)
    assert header.split() == ["task", "time", "best", "trials", "GFLOP/s", "of", "peak"]
    assert large.split() == ["large", "75%", "0.1", "ms", "1,234", "100", "━" * 8, "50%"]
    assert small.split() == ["small", "25%", "0.1", "ms", "8", "1e+03", "━" * 8, "500%"]


def test_the_bar_of_the_peak_is_as_long_as_its_share():
    update = state(task("half", flop=1e7), peak_gflops=200.0)
    (line,) = [each for each in tuning_lines(update, Fall(), 100, 30) if "half" in each.plain]
    bar = [span for span in line.spans if span.style == "cyan"]
    assert [line.plain[span.start : span.end] for span in bar] == ["━━━━"]


def test_tasks_that_do_not_fit_are_summed():
    update = state(*(task(f"conv_{number}", best_us=100.0 - number, trials=2) for number in range(50)))
    table = rows(update, height=12)
    assert len(shown(update, height=12)) == 12
    assert [row.split()[0] for row in table[1:4]] == ["conv_0", "conv_1", "conv_2"]
    hidden = 50 - (len(table) - 2)
    total, seen = sum(100.0 - number for number in range(50)), sum(100.0 - n for n in range(50 - hidden))
    assert table[-1] == f"  {hidden} others: {1 - seen / total:.0%} of the time, {2 * hidden} trials"


def test_the_current_task_is_always_among_those_shown():
    update = state(*(task(f"conv_{number}", best_us=100.0 - number) for number in range(50)), current=45)
    assert [row.split()[1] for row in rows(update, height=12) if row.startswith(">")] == ["conv_45"]


def test_a_task_that_has_stopped_is_marked():
    assert any(row.startswith("✓ conv") for row in rows(state(task("conv", stopped=True))))


def test_tasks_without_a_time_come_last_and_show_a_dash():
    update = state(task("heavy", None, flop=1e9), task("light", None, flop=1e3), task("timed"))
    assert [row.split()[:2] for row in rows(update)[1:]] == [
        ["timed", "100%"],
        ["heavy", "-"],
        ["light", "-"],
    ]


def test_stages_are_shares_of_the_time():
    text = "\n".join(shown(state(stages={"idle": 9.4, "search": 31.0, "measure": 88.0})))
    assert "stages   search 31%, measure 88%, idle 9%" in text


def test_failures_are_shown_by_cause_the_most_frequent_first():
    update = state(failures={Cause.CRASHED: 1, Cause.TIMED_OUT: 1200, Cause.NO_TIME: 0})
    assert "  failed   1,200 timed out, 1 crashed" in shown(update)


def devices(*states: str) -> tuple[DeviceProgress, ...]:
    return tuple(
        DeviceProgress(address=f"10.0.0.{number}:9090", status=status, trials=10 * number)
        for number, status in enumerate(states)
    )


def test_a_few_devices_are_shown_with_their_state():
    lines = shown(state(devices=devices("free", "gone")))
    assert "  devices  10.0.0.0:9090 free, 0 trials" in lines
    assert "           10.0.0.1:9090 gone, 10 trials" in lines


def test_many_devices_are_counted_and_those_gone_named():
    lines = shown(state(devices=devices(*["measuring"] * 6, "gone", "cooling down")))
    assert "  devices  6 measuring, 1 gone, 1 cooling down: 10.0.0.6:9090" in lines


def test_an_emulated_time_is_labelled():
    update = state(best_ms=12.5, measured_on="cortex-a72", emulated=True)
    assert "best 12.5 ms for the network, emulated" in "\n".join(shown(update))
    assert "  on       cortex-a72, emulated" in shown(update)
    assert "best 12.5 ms for the network, emulated" in tuning_line(update)


def test_latency_falls_in_a_spark_line():
    (line,) = [line for line in shown(state(best_ms=10.0), fall=(1000.0, 100.0, 10.0)) if "network" in line]
    assert line == "  network  best 10 ms for the network  █▅▁ from 1000 ms"


def test_a_long_fall_is_thinned_and_keeps_both_ends():
    fall = Fall()
    for second in range(100_000):
        fall.add(float(second), 1e6 / (second + 1))
    assert len(fall.points) <= 2 * SPARK_WIDTH
    assert (fall.points[0], fall.points[-1]) == (1e6, 10.0)
    assert fall.points == sorted(fall.points, reverse=True)
    spark = fall.spark(SPARK_WIDTH)
    assert (len(spark), spark[0], spark[-1]) == (SPARK_WIDTH, "█", "▁")


def test_states_that_come_fast_do_not_make_it_longer():
    fall = Fall()
    for step in range(1000):
        fall.add(step / 1000, 50.0 - step / 1000)
    assert fall.points == [50.0 - 0.999]


def test_one_line_says_it_all():
    update = state(
        task("conv"),
        current=0,
        best_ms=12.5,
        failures={Cause.CRASHED: 2, Cause.TIMED_OUT: 1},
        devices=devices("gone", "free"),
    )
    assert tuning_line(update) == (
        "task 1 of 1 conv, 40 of 1,000 trials, best 12.5 ms for the network, 3 failed, 1 of 2 devices gone, "
        "5 min 0 s left"
    )


@pytest.mark.parametrize(
    ("facts", "share"),
    [
        ({"trials_done": 250}, 0.25),
        ({"trials_done": 1200}, 1.0),
        ({"trials_total": 0}, 1.0),
        ({"trials_total": None, "at": 30.0, "seconds_left": 90.0}, 0.25),
        ({"trials_total": None, "seconds_left": None}, None),
        ({"trials_total": None, "at": 0.0, "seconds_left": 0.0}, 0.0),
    ],
)
def test_share_of_the_budget_that_is_spent(facts: dict, share: float | None):
    assert share_done(state(**facts)) == share


def test_the_middle_of_a_long_name_is_left_out():
    name = "fused_conv2d_add_relu_" * 5 + "12"
    assert rows(state(task(name)), width=60)[1].split()[0].endswith("relu_12")


NAMES = st.text(max_size=90)
TASKS = st.builds(
    task,
    NAMES,
    st.none() | st.floats(1e-18, 1e18),
    weight=st.integers(0, 1 << 53),
    flop=st.floats(0, 1e18),
    stopped=st.booleans(),
)
STATES = st.builds(
    TuningProgress,
    at=st.floats(0, 1e18),
    tasks=st.lists(TASKS, max_size=12).map(tuple),
    current=st.none() | st.integers(0, 15),
    trials_done=st.integers(0, 1 << 53),
    trials_total=st.none() | st.integers(0, 1 << 53),
    failures=st.dictionaries(st.sampled_from(Cause), st.integers(0, 99)),
    devices=st.lists(st.builds(DeviceProgress, address=NAMES, status=st.just("gone")), max_size=6).map(tuple),
    best_ms=st.none() | st.floats(1e-18, 1e18),
    seconds_left=st.none() | st.floats(0, 1e18),
    stages=st.dictionaries(st.sampled_from(["search", "idle"]), st.floats(0, 1e18)),
    peak_gflops=st.none() | st.floats(1e-18, 1e18),
    measured_on=NAMES,
)


@settings(max_examples=200, deadline=None)
@given(
    update=STATES,
    width=st.integers(1, 150),
    height=st.integers(-2, 50),
    fall=st.lists(st.floats(1e-18, 1e18)),
)
def test_any_state_fits_any_terminal(update: TuningProgress, width: int, height: int, fall: list[float]):
    course = Fall()
    for at, value in enumerate(fall):
        course.add(float(at), value)
    lines = tuning_lines(update, course, width, height)
    assert 1 <= len(lines) <= max(height, 1)
    assert all(line.cell_len <= width for line in lines)
    assert all(line.plain.isprintable() for line in lines)
    assert tuning_line(update).isprintable()


def test_a_flood_of_states_is_drawn_four_times_a_second_at_most():
    console = Console(
        file=io.StringIO(), force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"}
    )
    display = LiveDisplay(console)
    with display.shown() as live:
        drawn = console.file.getvalue().count("\x1b[?25l")
        for done in range(5000):
            display.tuning(state(trials_done=done))
        assert live.refresh_per_second == 4
    assert console.file.getvalue().count("trials,") <= drawn + 4 * 60
