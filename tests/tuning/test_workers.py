"""Worker processes: a crash, a hang or an error costs its call and nothing else."""

import operator
import os
import select
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from tuning.worker import Call
from tuning.workers import WorkerPool, call


@pytest.fixture
def pool():
    with WorkerPool(size=2) as workers:
        yield workers


def test_outcomes_come_in_the_order_of_the_calls(pool: WorkerPool) -> None:
    outcomes = pool.run([Call(divmod, (number, 3), 30) for number in range(7)])
    assert [outcome.value for outcome in outcomes] == [divmod(number, 3) for number in range(7)]
    assert all(outcome.cause is None for outcome in outcomes)


def test_crash_hang_and_error_cost_only_their_call(pool: WorkerPool) -> None:
    outcomes = pool.run(
        [
            Call(abs, (-1,), 30),
            Call(signal.raise_signal, (signal.SIGSEGV,), 30),
            Call(time.sleep, (600,), 0.5),
            Call(os._exit, (3,), 30),
            Call(int, ("seven",), 30),
            Call(abs, (-2,), 30),
        ]
    )
    assert [outcome.value for outcome in outcomes] == [1, None, None, None, None, 2]
    assert [outcome.cause for outcome in outcomes] == [
        None,
        "the process doing it was ended by SIGSEGV",
        "took longer than 0.5 s",
        "the process doing it ended with code 3",
        "invalid literal for int() with base 10: 'seven'",
        None,
    ]


def test_a_worker_lives_on_until_it_is_recycled() -> None:
    with WorkerPool(size=1, recycle_after=2) as pool:
        pids = [outcome.value for outcome in pool.run([Call(os.getpid, (), 30)] * 4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_an_idle_worker_that_died_is_replaced() -> None:
    with WorkerPool(size=1) as pool:
        (first,) = pool.run([Call(os.getpid, (), 30)])
        os.kill(first.value, signal.SIGKILL)
        assert ends(first.value)
        (second,) = pool.run([Call(os.getpid, (), 30)])
    assert second.cause is None
    assert second.value != first.value


def test_calls_that_were_not_made_are_cancelled_when_the_pool_is_closed() -> None:
    with WorkerPool(size=1) as pool:
        futures = [pool.submit(Call(time.sleep, (600,), 600)) for _ in range(3)]
        while not futures[0].running():
            pass
    assert futures[0].result().cause is not None
    assert [future.cancelled() for future in futures[1:]] == [True, True]
    assert pool.submit(Call(abs, (1,), 30)).cancelled()


def test_a_pool_grows_and_shrinks() -> None:
    with WorkerPool(size=0) as pool:
        waiting = pool.submit(Call(abs, (-1,), 30))
        assert not waiting.running()
        pool.resize(3)
        assert waiting.result(60).value == 1
        pool.resize(0)
        later = pool.submit(Call(abs, (-2,), 30))
        pool.resize(1)
        assert later.result(60).value == 2


@pytest.mark.parametrize("seconds", [pytest.param(1.0, id="late"), pytest.param(60.0, id="crashed")])
def test_what_a_lost_call_had_started_is_ended_at_once(seconds: float) -> None:
    with WorkerPool(size=1) as pool:
        worker = psutil.Process(pool.run([Call(os.getpid, (), 30)])[0].value)
        lost = pool.submit(Call(subprocess.run, (["sleep", "600"],), seconds))
        while not (started := worker.children()):
            assert not lost.done()
        if seconds > 1:
            worker.send_signal(signal.SIGSEGV)
        outcome = lost.result(60)
        assert outcome.late or outcome.ended_by is signal.SIGSEGV
        assert ends(started[0].pid)


def test_a_call_that_eats_memory_is_ended_and_told() -> None:
    limit = 400 << 20
    with WorkerPool(size=1) as pool:
        eater, modest, refused = pool.run(
            [
                Call(operator.mul, (b"ab", 1 << 31), 60, limit),
                Call(operator.mul, (b"ab", 2), 60, limit),
                Call(bytearray, (1 << 60,), 60, limit),
            ]
        )
    assert (eater.cause, eater.out_of_memory) == ("needed more than 400 MiB of memory", True)
    assert (modest.value, modest.out_of_memory) == (b"abab", False)
    assert (refused.value, refused.out_of_memory) == (None, True)


def test_arguments_that_cannot_be_sent_cost_only_their_call(pool: WorkerPool) -> None:
    unsendable, sound = pool.submit(Call(len, (threading.Lock(),), 30)), pool.submit(Call(len, ("ab",), 30))
    assert isinstance(unsendable.exception(60), TypeError)
    assert sound.result(60).value == 2


def test_large_arguments_and_values_are_sent_whole(pool: WorkerPool) -> None:
    data = np.random.default_rng(0).bytes(40 << 20)
    (outcome,) = pool.run([Call(bytes.swapcase, (data,), 60)])
    assert outcome.value == data.swapcase()


def test_workers_are_forked_from_a_process_of_one_thread_without_torch() -> None:
    with WorkerPool(size=1) as pool:
        server, modules = pool.run(
            [Call(os.getppid, (), 30), Call(eval, ("list(__import__('sys').modules)",), 30)]
        )
        assert len(os.listdir(f"/proc/{server.value}/task")) == 1
    assert "tvm" in modules.value
    assert "torch" not in modules.value


def test_workers_start_when_their_fork_server_was_killed() -> None:
    with WorkerPool(size=1, recycle_after=1) as pool:
        (server,) = pool.run([Call(os.getppid, (), 30)])
        os.kill(server.value, signal.SIGKILL)
        assert ends(server.value)
        outcomes = pool.run([Call(abs, (-1,), 60), Call(os.getppid, (), 60)])
    assert outcomes[0].value == 1
    assert outcomes[1].value != server.value


def test_workers_are_not_in_the_terminals_process_group() -> None:
    assert call(os.getsid, 0, seconds=30).value != os.getsid(0)


def test_workers_end_with_their_parent() -> None:
    program = (
        "import os, signal; from tuning.worker import Call; from tuning.workers import WorkerPool;"
        "pool = WorkerPool(1);"
        "print(pool.run([Call(os.getpid, (), 60)])[0].value, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        worker = int(parent.stdout.readline())
        assert parent.wait(60) == -signal.SIGKILL
    assert ends(worker)


def ends(pid: int) -> bool:
    """Tell whether a process ends within 20 seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor):
        return bool(select.select([descriptor], [], [], 20)[0])
