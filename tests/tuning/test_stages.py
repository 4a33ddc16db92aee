"""Stages: wall time in which somebody was busy, not the sum over all who were."""

import pytest

from tuning.stages import Stages


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_time_in_which_several_are_busy_counts_once(clock: Clock) -> None:
    stages = Stages(clock)
    for at, change in ((1, stages.enter), (2, stages.enter), (5, stages.leave), (7, stages.leave)):
        clock.now = at
        change("build")
    clock.now = 10
    assert stages.seconds() == {"build": 6, "idle": 10}


def test_idle_is_when_no_device_has_anything_to_do(clock: Clock) -> None:
    stages = Stages(clock)
    with stages.busy("search"):
        clock.now = 2
        with stages.busy("measure"):
            clock.now = 5
    with stages.busy("check"):
        clock.now = 6
    clock.now = 8
    assert stages.seconds() == {"search": 5, "measure": 3, "check": 1, "idle": 4}


def test_a_stage_that_goes_on_counts_up_to_now(clock: Clock) -> None:
    stages = Stages(clock)
    stages.enter("measure")
    clock.now = 3
    assert stages.seconds() == {"measure": 3, "idle": 0}
    clock.now = 4
    assert stages.seconds()["measure"] == 4


def test_a_stage_is_left_even_if_it_fails(clock: Clock) -> None:
    stages = Stages(clock)

    def fail() -> None:
        with stages.busy("search"):
            clock.now = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    clock.now = 9
    assert stages.seconds()["search"] == 1
