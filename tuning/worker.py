"""One child process that runs functions for us, so that a crash or a hang costs one call and nothing else.

It is a session of its own, so that the terminal's Ctrl-C reaches only us, and it ends by itself when we are
gone: idle at the end of its socket, busy by its alarm clock.
"""

import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tuning.errors import TuningError

_START_SECONDS = 120.0
_SEND_SECONDS = 60
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Call:
    """A function of an importable module, its arguments, and the seconds it may take."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float


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
    late : bool
        Whether it was ended because it took too long.
    ended_by : signal.Signals or None
        What ended the process that ran it.
    """

    value: Any = None
    cause: str | None = None
    seconds: float = 0.0
    late: bool = False
    ended_by: signal.Signals | None = None


class Worker:
    """A child process. One thread makes the calls; another one may kill it at any time.

    Attributes
    ----------
    calls : int
        How many it was given.
    usable : bool
        False once a call crashed it or was late.

    Raises
    ------
    TuningError
        If it does not start in time.
    """

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
        self._connection = Connection(ours.detach())
        self._ending = threading.Lock()
        self.calls = 0
        self.usable = True
        started = self._reply(_START_SECONDS)
        if not self.usable:
            self.close()
            raise TuningError(f"a worker process could not start: {started.cause}")

    def call(self, call: Call) -> Outcome:
        """Make a call and return what became of it."""
        self.calls += 1
        with suppress(OSError):
            self._connection.send_bytes(pickle.dumps(call))
        return self._reply(call.seconds)

    def alive(self) -> bool:
        """Tell whether the process runs."""
        with self._ending:
            return self._process.poll() is None

    def kill(self) -> None:
        """End the process and everything it started; a call that is being made ends with it."""
        with self._ending:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and let go of it; only for the thread that makes the calls."""
        self.kill()
        self._connection.close()
        self._process.wait()

    def _reply(self, limit: float) -> Outcome:
        started = time.monotonic()
        there = self._connection.poll(limit)
        seconds = time.monotonic() - started
        self.usable = False
        if not there:
            return Outcome(cause=f"took longer than {limit:g} s", seconds=seconds, late=True)
        try:
            value, cause = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return self._death(seconds)
        self.usable = True
        return Outcome(value, cause, seconds)

    def _death(self, seconds: float) -> Outcome:
        with suppress(subprocess.TimeoutExpired), self._ending:
            self._process.wait(_END_SECONDS)
        code = self._process.returncode
        if code is None or code >= 0:
            return Outcome(cause=f"the process doing it ended with code {code}", seconds=seconds)
        ended_by = signal.Signals(-code)
        return Outcome(
            cause=f"the process doing it was ended by {ended_by.name}", seconds=seconds, ended_by=ended_by
        )
