"""One child process that runs functions for us, so that a crash or a hang costs one call and nothing else.

It is a session of its own, so that the terminal's Ctrl-C reaches only us, and it ends by itself when we are
gone: idle at the end of its socket, busy by its alarm clock.
"""

import os
import pickle
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tuning.errors import TuningError
from tuning.fork_server import SERVER

_START_SECONDS = 120.0
_TRANSFER_SECONDS = 60
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Call:
    """A function of an importable module, its arguments, and what it may take.

    Attributes
    ----------
    function : callable
    arguments : tuple
    seconds : float
        A call that takes longer is ended.
    memory_bytes : int or None
        A call whose process holds more is ended; None sets no limit.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float
    memory_bytes: int | None = None


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
    out_of_memory : bool
        Whether it was ended because it held too much memory, or could not get what it asked for.
    ended_by : signal.Signals or None
        What ended the process that ran it.
    """

    value: Any = None
    cause: str | None = None
    seconds: float = 0.0
    late: bool = False
    out_of_memory: bool = False
    ended_by: signal.Signals | None = None


class Worker:
    """A child process. One thread makes the calls; another one may kill it at any time.

    Attributes
    ----------
    calls : int
        How many it was given.
    usable : bool
        False once it crashed, or was ended for being late or too large.

    Raises
    ------
    TuningError
        If it does not start in time.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        limit = struct.pack("ll", _TRANSFER_SECONDS, 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._connection = Connection(ours.detach())
        with theirs:
            self._pid = SERVER.fork(theirs)
        self._process = os.pidfd_open(self._pid)
        self._ending = threading.Lock()
        self._code: int | None = None
        self._reaped = False
        self.calls = 0
        self.usable = True
        started = self._reply(_START_SECONDS, None)
        if not self.usable:
            self.close()
            raise TuningError(f"a worker process could not start: {started.cause}")

    def call(self, call: Call) -> Outcome:
        """Make a call and return what became of it."""
        message = pickle.dumps(call)
        self.calls += 1
        with suppress(OSError):
            self._connection.send_bytes(message)
        return self._reply(call.seconds, call.memory_bytes)

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return not self._ended(0.0)

    def kill(self) -> None:
        """End the process and everything it started; a call that is being made ends with it."""
        with self._ending:
            if not self._reaped:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and let go of it; only for the thread that makes the calls."""
        self.usable = False
        if not self._connection.closed:
            self._exit_code()
            self._connection.close()
            os.close(self._process)

    def _reply(self, limit: float, memory_bytes: int | None) -> Outcome:
        started = time.monotonic()
        self.usable = False
        while not self._connection.poll(_LOOK_SECONDS):
            seconds = time.monotonic() - started
            if seconds > limit:
                self.kill()
                return Outcome(cause=f"took longer than {limit:g} s", seconds=seconds, late=True)
            if memory_bytes is not None and self._resident_bytes() > memory_bytes:
                self.kill()
                cause = f"needed more than {memory_bytes >> 20} MiB of memory"
                return Outcome(cause=cause, seconds=seconds, out_of_memory=True)
        seconds = time.monotonic() - started
        try:
            value, cause, out_of_memory = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return self._death(seconds)
        self.usable = True
        return Outcome(value, cause, seconds, out_of_memory=out_of_memory)

    def _death(self, seconds: float) -> Outcome:
        self._ended(_END_SECONDS)
        code = self._exit_code()
        if code is None or code >= 0:
            return Outcome(cause=f"the process doing it ended with code {code}", seconds=seconds)
        ended_by = signal.Signals(-code)
        return Outcome(
            cause=f"the process doing it was ended by {ended_by.name}", seconds=seconds, ended_by=ended_by
        )

    def _exit_code(self) -> int | None:
        """End what is left of the process and return how it had ended; None if that is not known."""
        self.kill()
        with self._ending:
            if not self._reaped and self._ended(_END_SECONDS):
                self._code = SERVER.reap(self._pid)
                self._reaped = True
            return self._code

    def _ended(self, seconds: float) -> bool:
        """Tell whether the process ends within so many seconds."""
        return bool(wait([self._process], seconds))

    def _resident_bytes(self) -> int:
        try:
            return int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):
            return 0
