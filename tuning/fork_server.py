"""One process that has imported TVM, and forks workers from itself in milliseconds.

Importing TVM takes a second or more. So it is paid once in a program's life, not for each worker and each
replacement of one that crashed. The fork server (``worker_main.py``) has one thread and makes no calls, so
forking it is safe. It ends when this process does, as its socket closes then.

A worker that ended stays a zombie until ``reap`` is called for it: its number belongs to no other process
before that.
"""

import atexit
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tuning.errors import TuningError

_PROGRAM = Path(__file__).with_name("worker_main.py")
_ANSWER_SECONDS = 120.0
_END_SECONDS = 5.0
_ATTEMPTS = 2


class ForkServer:
    """Our side of it; the process starts with the first call, and again if it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    def fork(self, connection: socket.socket) -> int:
        """Fork a worker that answers calls on a socket, and return its process number.

        Raises
        ------
        TuningError
            If no worker can be started.
        """
        causes = []
        with self._lock:
            for _ in range(_ATTEMPTS):
                try:
                    return int(self._ask("fork", connection.fileno()))
                except (OSError, ValueError) as error:
                    causes.append(error)
                    self._stop()
        raise TuningError(f"a worker process could not start: {causes[-1]}")

    def reap(self, pid: int) -> int | None:
        """Return the exit code of a worker that has ended; a signal's is negative.

        It is None if it cannot be known: the worker still runs, or the fork server was killed meanwhile.
        """
        with self._lock, suppress(OSError, ValueError):
            if self._control is not None:
                return int(self._ask(f"reap {pid}"))
        return None

    def close(self) -> None:
        """End the process; its workers end when the other ends of their sockets are closed."""
        with self._lock:
            self._stop()

    def _ask(self, question: str, *descriptors: int) -> str:
        control = self._control or self._start()
        socket.send_fds(control, [question.encode()], descriptors)
        answer = control.recv(64)
        if not answer:
            raise ConnectionError("the process that starts workers has ended")
        return answer.decode()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_SECONDS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        self._control = self._process = None


SERVER = ForkServer()
atexit.register(SERVER.close)
