"""Child processes that run functions for us, so that a crash or a hang costs one call and nothing else.

A worker lives on from call to call (starting one costs TVM's import) and is replaced after a number of
calls, because TVM's compiler leaks memory, and after a crash or a time-out. Workers are sessions of their
own, so that the terminal's Ctrl-C reaches only us, and end by themselves when we are gone: an idle one at
the end of its socket, a busy one by its alarm clock.
"""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tuning.errors import TuningError

_START_SECONDS = 120.0
_SEND_SECONDS = 60


@dataclass(frozen=True)
class Outcome:
    """What became of one call: its value, or the cause why there is none, in words.

    Attributes
    ----------
    value : object
        What the function returned.
    cause : str or None
        Why it did not return; None if it did.
    seconds : float
        How long the call took.
    """

    value: Any = None
    cause: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Call:
    """A function of an importable module, its arguments, and the seconds it may take."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float


class _Worker:
    """One child process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tuning.worker_main", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())
        self.calls = 0
        self.usable = True
        self.index: int | None = None
        self._limit = _START_SECONDS
        self._since = time.monotonic()

    @property
    def deadline(self) -> float:
        return self._since + self._limit

    def start(self, index: int, call: Call) -> None:
        self.calls += 1
        self.index, self._limit = index, call.seconds
        with suppress(OSError):
            self.connection.send_bytes(pickle.dumps(call))
        self._since = time.monotonic()

    def finish(self) -> Outcome:
        """Read the reply; a worker that is gone or late gives a cause instead and is not usable any more."""
        seconds = time.monotonic() - self._since
        self.usable = False
        if not self.connection.poll():
            return Outcome(cause=f"took longer than {self._limit:g} s", seconds=seconds)
        try:
            value, cause = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return Outcome(cause=self._death(), seconds=seconds)
        self.usable = True
        return Outcome(value, cause, seconds)

    def _death(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code is None or code >= 0:
            return f"the process doing it ended with code {code}"
        return f"the process doing it was ended by {signal.Signals(-code).name}"

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self.connection.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class WorkerPool:
    """A number of workers that share the calls given to them.

    Parameters
    ----------
    size : int
        How many processes work at the same time.
    recycle_after : int
        Calls after which a process is replaced by a fresh one.
    """

    def __init__(self, size: int, recycle_after: int = 1 << 30) -> None:
        self._size = size
        self._recycle_after = recycle_after
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Make the calls and return what became of them, in their order."""
        outcomes = dict(self.run_each(calls))
        return [outcomes[index] for index in range(len(calls))]

    def run_each(self, calls: Sequence[Call]) -> Iterator[tuple[int, Outcome]]:
        """Make the calls; yield each one's position and outcome as soon as it is there.

        Raises
        ------
        TuningError
            If a worker process cannot be started at all.
        """
        waiting = deque(enumerate(calls))
        try:
            while waiting or any(worker.index is not None for worker in self._busy):
                self._hand_out(waiting)
                yield from self._collect()
        finally:
            self._drop([worker for worker in self._busy if worker.index is not None])

    def close(self) -> None:
        """End every worker."""
        self._drop([*self._idle, *self._busy])

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _hand_out(self, waiting: deque[tuple[int, Call]]) -> None:
        while waiting and self._idle:
            worker = self._idle.pop()
            if not worker.alive():
                worker.kill()
                continue
            worker.start(*waiting.popleft())
            self._busy.append(worker)
        starting = sum(worker.index is None for worker in self._busy)
        room = self._size - len(self._busy) - len(self._idle)
        for _ in range(min(room, len(waiting) - starting)):
            self._busy.append(_Worker())

    def _collect(self) -> Iterator[tuple[int, Outcome]]:
        first = min(worker.deadline for worker in self._busy)
        ready = wait([worker.connection for worker in self._busy], max(0.0, first - time.monotonic()))
        now = time.monotonic()
        for worker in list(self._busy):
            if worker.connection not in ready and now < worker.deadline:
                continue
            index, outcome = worker.index, worker.finish()
            self._settle(worker)
            if index is not None:
                yield index, outcome
            elif not worker.usable:
                raise TuningError(f"a worker process could not start: {outcome.cause}")

    def _settle(self, worker: _Worker) -> None:
        if not worker.usable or worker.calls >= self._recycle_after:
            self._drop([worker])
            return
        worker.index = None
        self._busy.remove(worker)
        self._idle.append(worker)

    def _drop(self, workers: list[_Worker]) -> None:
        for worker in workers:
            worker.kill()
        self._idle = [worker for worker in self._idle if worker not in workers]
        self._busy = [worker for worker in self._busy if worker not in workers]


def call(function: Callable[..., Any], *arguments: Any, seconds: float) -> Outcome:
    """Call a function of an importable module in a process of its own and return what became of it."""
    with WorkerPool(size=1) as pool:
        return pool.run([Call(function, arguments, seconds)])[0]
