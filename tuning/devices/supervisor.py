"""Keeps child processes running: one that died is started again, as long as it does not die all the time."""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tuning.errors import TuningError

_CHECK_SECONDS = 0.1
_STOP_SECONDS = 5.0
_MOST_RESTARTS = 20
_WITHIN_SECONDS = 60.0


@dataclass(frozen=True)
class Program:
    """A command, its environment, and the file descriptors that it inherits."""

    command: tuple[str, ...]
    environment: dict[str, str]
    descriptors: tuple[int, ...]


class Supervisor:
    """Runs programs until ``close``.

    Each is a session of its own, which the terminal's Ctrl-C does not reach, and has a pipe as its standard
    input that ends when this process is gone.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._children = [_start(program) for program in programs]
        self._restarts: deque[float] = deque(maxlen=_MOST_RESTARTS + 1)
        self._failure: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The process of each program, in their order."""
        return tuple(child.pid for child in self._children)

    def check(self) -> None:
        """Raise what ended them.

        Raises
        ------
        TuningError
            If one of them died too often.
        """
        if self._failure is not None:
            raise TuningError(self._failure)

    def close(self) -> None:
        """End them and everything they started."""
        self._closing.set()
        self._thread.join()
        self._end_all()

    def _watch(self) -> None:
        while not self._closing.wait(_CHECK_SECONDS):
            for place, child in enumerate(self._children):
                if child.poll() is not None:
                    self._replace(place)
            if self._failure is not None:
                self._end_all()
                return

    def _replace(self, place: int) -> None:
        dead = self._children[place]
        self._restarts.append(time.monotonic())
        if len(self._restarts) > _MOST_RESTARTS and (
            self._restarts[-1] - self._restarts[0] < _WITHIN_SECONDS
        ):
            name = " ".join(dead.args[2:])
            self._failure = (
                f"the local RPC processes ended {len(self._restarts)} times within {_WITHIN_SECONDS:g} s, "
                f"last {name!r} with code {dead.returncode}: find out what ends them (too little memory?)"
            )
            return
        _end(dead)
        with suppress(OSError):
            self._children[place] = _start(self._programs[place])

    def _end_all(self) -> None:
        for child in self._children:
            with suppress(OSError):
                child.stdin.close()
        for child in self._children:
            _end(child)


def _start(program: Program) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        program.command,
        env=program.environment,
        pass_fds=program.descriptors,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let go of the child's watch pipe, and end it if it does not do so itself."""
    with suppress(OSError):
        child.stdin.close()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
