"""Builds candidates on a Dask cluster.

A candidate travels as JSON, is built in a child process of a Dask worker, and its library comes back as
bytes. Dask gives the candidates of a worker that was lost to others.
"""

import shutil
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import tvm
from tvm.ir import IRModule

from targets import TargetInfo
from tuning.building.built import Built
from tuning.building.candidate import LIBRARY, Recipe
from tuning.building.cluster_connection import ANSWER_SECONDS, connect, in_one_line
from tuning.building.cluster_worker import Shipped, Terms, build_on_worker, versions
from tuning.building.limits import BUILD_SECONDS, MEMORY_BYTES
from tuning.errors import TuningError
from tuning.failures import Cause, Failure
from tuning.interrupts import held_back

if TYPE_CHECKING:
    import distributed

_LOOK_SECONDS = 1.0
_STALL_SECONDS = 600.0
_ATTEMPTS = 3


@dataclass(eq=False)
class _Sent:
    """A candidate as JSON, who waits for it, and how often it was sent."""

    module: str
    future: "Future[Built]" = field(default_factory=Future)
    times: int = 0
    remote: "distributed.Future | None" = None


class ClusterBuilder:
    """Builds for a target on the workers of a Dask scheduler; a ``Builder``.

    Parameters
    ----------
    address : str
        Of the scheduler, such as ``tcp://scheduler:8786``.
    target : TargetInfo
        What to build for; every worker needs its compiler.
    seconds : float
        A build that takes longer is ended.
    memory_bytes : int
        A build whose process holds more is ended.
    connect_seconds : float
        How long to wait for the scheduler to answer, and for its first worker.
    patience_seconds : float
        How long to wait for a worker when all are gone.

    Raises
    ------
    TuningError
        If the cluster cannot be reached or its workers cannot build for the target.
    """

    def __init__(
        self,
        address: str,
        target: TargetInfo,
        seconds: float = BUILD_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
        connect_seconds: float = 15.0,
        patience_seconds: float = 60.0,
    ) -> None:
        self._address = address
        self._patience_seconds = patience_seconds
        self._terms = Terms(Recipe.of(target, target.compiler), seconds, memory_bytes, versions())
        self._client = connect(address, target, connect_seconds)
        self._folder = Path(tempfile.mkdtemp(prefix="deeprebirth-build-"))
        self._numbers = count()
        self._pending: dict[int, _Sent] = {}
        self._lock = threading.Lock()
        self._broken: TuningError | None = None
        self._closing = threading.Event()
        self._heard = time.monotonic()
        self._slots = sum(self._threads().values())
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def slots(self) -> int:
        """How many the cluster builds at a time: the threads of its workers."""
        return self._slots

    def submit(self, module: IRModule) -> "Future[Built]":
        """Put a candidate in the queue; one that crashes, hangs or does not compile gives a failure.

        The future holds a ``TuningError`` if the cluster cannot build any more, and is cancelled if the
        builder is closed before the candidate was built.
        """
        with held_back():
            sent = _Sent(tvm.ir.save_json(module))
        number = next(self._numbers)
        with self._lock:
            if not self._pending:
                self._heard = time.monotonic()
            self._pending[number] = sent
        self._send(number, sent)
        return sent.future

    def close(self) -> None:
        """Let go of the cluster and remove what it built."""
        self._closing.set()
        self._drop(None)
        self._watcher.join()
        with suppress(OSError, RuntimeError):
            self._client.close(timeout=ANSWER_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, number: int, sent: _Sent) -> None:
        if self._broken is not None or self._closing.is_set():
            self._drop(self._broken)
            return
        sent.times += 1
        try:
            sent.remote = self._client.submit(build_on_worker, sent.module, self._terms, pure=False)
        except (OSError, RuntimeError) as error:
            self._give_up(f"lost the Dask scheduler {self._address} ({in_one_line(error)})")
            return
        sent.remote.add_done_callback(partial(self._arrived, number))

    def _arrived(self, number: int, remote: "distributed.Future") -> None:
        """Take in what came of a candidate; Dask calls this, in a thread of its own."""
        self._heard = time.monotonic()
        sent = self._pending.get(number)
        if sent is None:
            return
        if remote.status not in ("finished", "error"):
            self._give_up(f"lost the Dask scheduler {self._address}")
            return
        try:
            built = self._unpacked(number, remote.result(timeout=ANSWER_SECONDS))
        except Exception as error:
            self._failed(number, sent, error)
        else:
            self._settle(number, built)

    def _failed(self, number: int, sent: _Sent, error: Exception) -> None:
        """Send a candidate once more if what failed is not the build of it but its worker."""
        from distributed import KilledWorker

        if sent.times < _ATTEMPTS:
            self._send(number, sent)
        elif isinstance(error, KilledWorker):
            why = Failure(Cause.CRASHED, "each Dask worker that built it was lost")
            self._settle(number, Built(None, why))
        else:
            self._give_up(f"the Dask cluster {self._address} cannot build: {in_one_line(error)}")

    def _unpacked(self, number: int, shipped: Shipped) -> Built:
        if shipped.library is None:
            return Built(None, shipped.failure, shipped.seconds)
        path = self._folder / str(number) / LIBRARY
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(shipped.library)
        return Built(path, seconds=shipped.seconds)

    def _settle(self, number: int, built: Built) -> None:
        with self._lock:
            sent = self._pending.pop(number, None)
        if sent is not None and sent.future.set_running_or_notify_cancel():
            sent.future.set_result(built)

    def _watch(self) -> None:
        """Follow the cluster's size, and give up when nothing can come of it any more."""
        staffed = time.monotonic()
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self._slots = sum(self._threads().values())
            except (OSError, RuntimeError) as error:
                self._give_up(f"lost the Dask scheduler {self._address} ({in_one_line(error)})")
                return
            now = time.monotonic()
            staffed = now if self._slots else staffed
            if now - staffed > self._patience_seconds:
                self._give_up(f"the Dask cluster {self._address} has no workers left")
                return
            if self._pending and now - self._heard > _STALL_SECONDS:
                self._give_up(f"the Dask cluster {self._address} built nothing for {_STALL_SECONDS:g} s")
                return

    def _threads(self) -> dict[str, int]:
        return self._client.nthreads(callback_timeout=ANSWER_SECONDS)

    def _give_up(self, why: str) -> None:
        self._broken = TuningError(f"{why}: start it again, or build on this machine, and go on")
        self._drop(self._broken)

    def _drop(self, error: TuningError | None) -> None:
        """Tell all that wait that nothing comes: by an error, or by cancelling."""
        with self._lock:
            pending, self._pending = self._pending, {}
        for sent in pending.values():
            if error is None:
                sent.future.cancel()
            if sent.future.set_running_or_notify_cancel():
                sent.future.set_exception(error)
