"""The runner on real devices: times, causes of failures, devices that leave and come back, hot ones."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest
from tvm.s_tir.meta_schedule.arg_info import TensorInfo

import targets
import tuning
from tuning.failures import Cause
from tuning.measuring.limits import Limits
from tuning.measuring.runner import Runner
from tuning.measuring.throttling import Pace

CandidateOf = Callable[[str], Path]
ArgsInfo = list[TensorInfo]
LIMITS = Limits(trial_seconds=2)
SECONDS = 120


@pytest.fixture
def runner(session: tuning.LocalSession) -> Iterator[Runner]:
    with Runner(session.rpc_config, limits=LIMITS) as one:
        yield one


@pytest.fixture
def pool(host: targets.TargetInfo) -> Iterator[tuning.LocalSession]:
    with tuning.LocalSession(host, threads=1, key="pool", devices=3) as local:
        yield local


def test_times_are_seconds_of_one_run(runner: Runner, candidate_of: CandidateOf, args_info: ArgsInfo) -> None:
    measured = runner.submit(candidate_of("usleep(20000);"), args_info).result(SECONDS)
    assert measured.failure is None
    assert 0.02 <= min(measured.seconds) <= measured.mean <= measured.took
    (device,) = runner.devices()
    assert runner.slots == 1
    assert (device.address, device.trials, device.failed) == (measured.device, 1, 0)


@pytest.mark.parametrize(
    ("statements", "cause", "detail"),
    [
        ("abort();", Cause.CRASHED, "ended by SIGABRT"),
        ("*(volatile int *)8 = 1;", Cause.CRASHED, "ended by SIGSEGV"),
        ("_exit(3);", Cause.CRASHED, "ended with code 3"),
        (
            "raise(SIGILL);",
            Cause.ILLEGAL_INSTRUCTION,
            "the device has not all instructions of the target: --target auto finds the one that it has",
        ),
        ("raise(SIGKILL);", Cause.OUT_OF_MEMORY, "the device's system ended it by SIGKILL"),
        ("pause();", Cause.TIMED_OUT, "took longer than 2 s"),
    ],
)
def test_a_failure_has_its_cause_and_the_device_is_there_for_the_next(
    runner: Runner,
    candidate_of: CandidateOf,
    args_info: ArgsInfo,
    statements: str,
    cause: Cause,
    detail: str,
) -> None:
    failed = runner.submit(candidate_of(statements), args_info)
    following = runner.submit(candidate_of("usleep(1000);"), args_info)
    failure = failed.result(SECONDS).failure
    assert (failure.cause, failure.detail) == (cause, detail)
    assert failed.result().seconds == ()
    assert following.result(SECONDS).failure is None
    assert runner.devices()[0].failed == 1


def test_a_library_that_cannot_be_loaded_is_refused(
    runner: Runner, tmp_path: Path, args_info: ArgsInfo
) -> None:
    broken = tmp_path / "candidate.so"
    broken.write_bytes(b"no library")
    failure = runner.submit(broken, args_info).result(SECONDS).failure
    assert failure.cause is Cause.REFUSED
    assert "candidate.so" in failure.detail
    assert "\n" not in failure.detail


def test_more_memory_than_there_is_is_told(runner: Runner, candidate_of: CandidateOf) -> None:
    huge = [TensorInfo("float32", (1 << 47,))]
    failure = runner.submit(candidate_of(""), huge).result(SECONDS).failure
    assert failure.cause is Cause.OUT_OF_MEMORY


def test_a_hopeless_candidate_is_run_twice_only(
    runner: Runner, candidate_of: CandidateOf, args_info: ArgsInfo
) -> None:
    slow = candidate_of("usleep(50000);")
    hopeless = runner.submit(slow, args_info, best=0.01).result(SECONDS)
    measured = runner.submit(slow, args_info, best=0.05).result(SECONDS)
    assert (len(hopeless.seconds), hopeless.steady) == (1, False)
    assert len(measured.seconds) >= 2


def test_all_devices_of_a_pool_measure_at_the_same_time(
    pool: tuning.LocalSession, candidate_of: CandidateOf, args_info: ArgsInfo, tmp_path: Path
) -> None:
    """Each candidate waits until the other two run as well."""
    marks = tmp_path / "marks"
    marks.mkdir()
    meet = (
        f'char name[] = "{marks}/XXXXXX"; close(mkstemp(name));'
        f'while (system("test $(ls \\"{marks}\\" | wc -l) -ge 3")) usleep(1000);'
    )
    with Runner(pool.rpc_config) as runner:
        assert runner.slots == 3
        futures = [runner.submit(candidate_of(meet), args_info) for _ in range(3)]
        measured = [future.result(SECONDS) for future in futures]
    assert [each.failure for each in measured] == [None] * 3
    assert len({each.device for each in measured}) == 3


def test_a_server_that_is_killed_costs_no_candidate(
    pool: tuning.LocalSession, candidate_of: CandidateOf, args_info: ArgsInfo
) -> None:
    with Runner(pool.rpc_config) as runner:
        futures = [runner.submit(candidate_of("usleep(300000);"), args_info) for _ in range(6)]
        while any(device.status != "measuring" for device in runner.devices()):
            time.sleep(0.01)
        for server in pool.process_ids[1:]:
            os.kill(server, signal.SIGKILL)
        measured = [future.result(SECONDS) for future in futures]
    assert [each.failure for each in measured] == [None] * 6


def test_a_device_that_left_and_came_back_is_told(
    host: targets.TargetInfo, candidate_of: CandidateOf, args_info: ArgsInfo
) -> None:
    lines: Queue[str] = Queue()
    with tuning.LocalSession(host, threads=1) as local:
        port = local.rpc_config.port
        runner = Runner(local.rpc_config, say=lines.put)
        address = runner.devices()[0].address
    try:
        waiting = runner.submit(candidate_of("usleep(1000);"), args_info)
        assert lines.get(timeout=SECONDS) == f"the device {address} is gone"
        assert runner.slots == 0
        assert runner.devices()[0].status == "gone"
        with tuning.LocalSession(host, threads=1, tracker_port=port):
            assert waiting.result(SECONDS).failure is None
    finally:
        runner.close()


def test_no_device_for_too_long_is_an_error(
    session: tuning.LocalSession, candidate_of: CandidateOf, args_info: ArgsInfo
) -> None:
    config = tuning.RpcConfig(session.rpc_config.host, session.rpc_config.port, "gone")
    with Runner(config, limits=Limits(return_seconds=0.5)) as runner:
        future = runner.submit(candidate_of(""), args_info)
        with pytest.raises(tuning.TuningError, match=r"0\.5 s: no device serves the key 'gone'.*: local$"):
            future.result(SECONDS)
    assert runner.submit(candidate_of(""), args_info).cancelled()


class Throttle:
    """A device whose code takes twice as long as long as a file is there."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "hot"
        self.statements = f'usleep(access("{self.file}", F_OK) ? 20000 : 40000);'


PACE = Pace(trials=1, seconds=1e9, rest_seconds=0.1, patience_seconds=1e9)


def test_a_throttled_device_cools_down_and_its_candidate_is_measured_again(
    session: tuning.LocalSession, candidate_of: CandidateOf, args_info: ArgsInfo, tmp_path: Path
) -> None:
    throttle = Throttle(tmp_path)
    candidate = candidate_of(throttle.statements)
    lines: list[str] = []
    told = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        told.set()

    with Runner(session.rpc_config, say=say, pace=PACE) as runner:
        first, second = [runner.submit(candidate, args_info).result(SECONDS) for _ in range(2)]
        assert lines == []
        throttle.file.touch()
        future = runner.submit(candidate, args_info)
        assert told.wait(SECONDS)
        assert not future.done()
        assert runner.devices()[0].status == "cooling down"
        throttle.file.unlink()
        third = future.result(SECONDS)
        assert runner.devices()[0].status == "free"
    assert max(third.seconds) < 1.5 * min(first.seconds + second.seconds)
    assert "is throttling: its first candidate takes" in lines[0]
    assert lines[1] == f"the device {third.device} has cooled down"


def test_a_reference_that_fails_costs_no_candidate(
    session: tuning.LocalSession, candidate_of: CandidateOf, args_info: ArgsInfo, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    reference = candidate_of(f'if (!access("{broken}", F_OK)) abort(); usleep(1000);')
    other = candidate_of("usleep(2000);")
    lines: list[str] = []
    with Runner(session.rpc_config, say=lines.append, pace=PACE) as runner:
        assert runner.submit(reference, args_info).result(SECONDS).failure is None
        assert runner.submit(other, args_info).result(SECONDS).failure is None
        broken.touch()
        measured = [runner.submit(other, args_info).result(SECONDS) for _ in range(3)]
        assert runner.submit(reference, args_info).result(SECONDS).failure.cause is Cause.CRASHED
    assert [each.failure for each in measured] == [None] * 3
    assert lines == []


def test_a_device_that_stays_hot_is_told_and_used(
    session: tuning.LocalSession, candidate_of: CandidateOf, args_info: ArgsInfo, tmp_path: Path
) -> None:
    throttle = Throttle(tmp_path)
    candidate = candidate_of(throttle.statements)
    lines: list[str] = []
    impatient = Pace(trials=1, seconds=1e9, rest_seconds=0.1, patience_seconds=0.3)
    with Runner(session.rpc_config, say=lines.append, pace=impatient) as runner:
        first, _ = [runner.submit(candidate, args_info).result(SECONDS) for _ in range(2)]
        throttle.file.touch()
        third = runner.submit(candidate, args_info).result(SECONDS)
    assert min(third.seconds) > 1.5 * min(first.seconds)
    assert "is throttling" in lines[0]
    assert f"the device {third.device} did not cool down: measuring goes on" in lines[1]
