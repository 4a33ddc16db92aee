"""The supervisor: what dies is started again, but not for ever."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

import tuning
from tuning.devices.supervisor import Program, Supervisor

WAITING = Program((sys.executable, "-c", "import sys; sys.stdin.read()"), dict(os.environ))
FAILING = Program((sys.executable, "-S", "-E", "-c", "raise SystemExit(3)"), dict(os.environ))


@pytest.mark.timeout(60)
def test_a_program_that_is_killed_is_started_again() -> None:
    supervisor = Supervisor([WAITING, WAITING])
    try:
        first, second = supervisor.process_ids
        os.kill(first, signal.SIGKILL)
        while supervisor.process_ids[0] == first:
            time.sleep(0.01)
        supervisor.check()
        assert supervisor.process_ids[1] == second
    finally:
        supervisor.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in supervisor.process_ids)


@pytest.mark.timeout(120)
def test_a_program_that_dies_all_the_time_is_given_up_in_words() -> None:
    supervisor = Supervisor([WAITING, FAILING], longest_pause=0)
    try:
        with pytest.raises(
            tuning.TuningError, match=r"ended 20 times within 60 s, the last with code 3: find"
        ):
            check_for_ever(supervisor)
    finally:
        supervisor.close()


def check_for_ever(supervisor: Supervisor) -> None:
    while True:
        supervisor.check()
        time.sleep(0.01)
