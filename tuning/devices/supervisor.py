"""Keeps child processes running: one that died is started again, as long as they do not die all the time."""

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
_MOST_ENDS = 20
_WITHIN_SECONDS = 60.0
_YOUNG_SECONDS = 5.0
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True)
class Program:
    """A command, its environment, and the file descriptors that it inherits."""

    command: tuple[str, ...]
    environment: dict[str, str]
    descriptors: tuple[int, ...] = ()


class Supervisor:
    """Runs programs until ``close``.

    Each is a session of its own, which the terminal's Ctrl-C does not reach, and has a pipe as its standard
    input that ends when this process is gone.

    Parameters
    ----------
    programs : sequence of Program
    longest_pause : float
        Seconds before a program that keeps dying soon after its start is started again.
    """

    def __init__(self, programs: Sequence[Program], longest_pause: float = _LONGEST_PAUSE) -> None:
        self._longest_pause = longest_pause
        self._children = [_Child(program) for program in programs]
        self._ends: deque[float] = deque(maxlen=_MOST_ENDS)
        self._failure: str | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The process of each program, in their order."""
        return tuple(child.process.pid for child in self._children)

    def check(self) -> None:
        """Raise what ended them.

        Raises
        ------
        TuningError
            If they died too often; they are not started any more.
        """
        if self._failure is not None:
            raise TuningError(self._failure)

    def close(self) -> None:
        """End them and everything they started."""
        self._closing.set()
        self._thread.join()
        for child in self._children:
            child.let_go()
        for child in self._children:
            child.end()

    def _watch(self) -> None:
        while self._failure is None and not self._closing.wait(_CHECK_SECONDS):
            for child in self._children:
                self._look_after(child)

    def _look_after(self, child: "_Child") -> None:
        now = time.monotonic()
        if child.process.poll() is None:
            return
        if child.due is None:
            child.plan_restart(now, self._longest_pause)
            self._ends.append(now)
            if len(self._ends) == _MOST_ENDS and now - self._ends[0] < _WITHIN_SECONDS:
                self._failure = (
                    f"the local RPC processes ended {_MOST_ENDS} times within {_WITHIN_SECONDS:g} s, "
                    f"the last with code {child.process.returncode}: find out why (too little memory?)"
                )
        elif now >= child.due:
            with suppress(OSError):
                child.restart()


class _Child:
    """A program's process, which may be dead and due to be started again."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._died_young = 0
        self._start()

    def plan_restart(self, now: float, longest_pause: float) -> None:
        """Say when to start it again: at once, but later and later if it keeps dying young."""
        self._died_young = self._died_young + 1 if now - self._started < _YOUNG_SECONDS else 0
        pause = _CHECK_SECONDS * 2 ** (self._died_young - 1) if self._died_young > 1 else 0.0
        self.due = now + min(pause, longest_pause)

    def restart(self) -> None:
        """Start it again."""
        self.end()
        self._start()

    def let_go(self) -> None:
        """Close the pipe that it watches."""
        with suppress(OSError):
            self.process.stdin.close()

    def end(self) -> None:
        """Let go of it, and kill it with its process group if it does not end by itself."""
        self.let_go()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self._program.command,
            env=self._program.environment,
            pass_fds=self._program.descriptors,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._started = time.monotonic()
        self.due: float | None = None
