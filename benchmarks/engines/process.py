"""An engine's process, as the one that compares sees it.

While it is not its turn, a process is stopped: an engine's threads may go on waiting actively after a run and
would take the cores from the next.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np

_HERE = Path(__file__).parent
_LOAD_SECONDS, _RUN_SECONDS = 900.0, 300.0


class PeerError(RuntimeError):
    """An engine cannot run the network; the message is one line."""


class Peer:
    """A network loaded in an engine; `close` ends its process.

    Parameters
    ----------
    engine : str
        A module of this package.
    model : Path
        What it loads.
    threads : int
        Cores that it may use.
    inputs : list of numpy.ndarray

    Raises
    ------
    PeerError
        If it does not load.
    """

    def __init__(self, engine: str, model: Path, threads: int, inputs: list[np.ndarray]) -> None:
        self.engine = engine
        self._folder = tempfile.TemporaryDirectory(prefix="deeprebirth-peer-")
        given, found = (Path(self._folder.name) / name for name in ("given.npz", "found.npz"))
        np.savez(given, *inputs)
        self._log = (Path(self._folder.name) / "log.txt").open("w+")
        command = [sys.executable, "-m", "engines.serve", engine, model, threads, given, found]
        cores = set(sorted(os.sched_getaffinity(0))[:threads])
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=_HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            self.version = str(self._answer(_LOAD_SECONDS)["version"])
            with np.load(found) as arrays:
                self.outputs = [arrays[name] for name in arrays.files]
        except PeerError:
            self.close()
            raise
        self._process.send_signal(signal.SIGSTOP)

    def run(self, times: int) -> list[float]:
        """Run the network so often, and return the milliseconds of each run."""
        self._process.send_signal(signal.SIGCONT)
        print(times, file=self._process.stdin, flush=True)
        milliseconds = self._answer(_RUN_SECONDS)
        self._process.send_signal(signal.SIGSTOP)
        return milliseconds

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _answer(self, seconds: float) -> Any:
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        raise PeerError(
            f"{self.engine}: {self._last_words() if ready else f'took longer than {seconds:g} s'}"
        )

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        return lines[-1] if lines else "it ended without a word"
