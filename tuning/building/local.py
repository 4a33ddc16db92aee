"""Builds candidates in worker processes of this machine.

Upstream's local builder starts fresh workers for every round because they leak memory. These live on, and are
replaced after a number of builds.
"""

import shutil
import tempfile
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path

from tvm.ir import IRModule

from targets import TargetInfo, machine
from tuning.building.built import Built
from tuning.building.candidate import LIBRARY, Recipe, build_candidate
from tuning.building.limits import BUILD_SECONDS, BUILDS_PER_WORKER, MEMORY_BYTES, failure
from tuning.worker import Call, Outcome
from tuning.workers import WorkerPool


class LocalBuilder:
    """Builds for a target, as many at a time as it has workers; a ``Builder``.

    Parameters
    ----------
    target : TargetInfo
        What to build for.
    workers : int, optional
        Builds at the same time; by default this machine's cores.
    seconds : float
        A build that takes longer is ended.
    recycle_after : int
        Builds after which a worker process is replaced.
    memory_bytes : int
        A build whose process holds more is ended.

    Raises
    ------
    targets.TargetError
        If the target's compiler is missing.
    """

    def __init__(
        self,
        target: TargetInfo,
        workers: int | None = None,
        seconds: float = BUILD_SECONDS,
        recycle_after: int = BUILDS_PER_WORKER,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._recipe = Recipe.of(target, target.require_compiler())
        self._seconds = seconds
        self._memory_bytes = memory_bytes
        self._pool = WorkerPool(workers or machine.core_count(), recycle_after)
        self._folder = Path(tempfile.mkdtemp(prefix="deeprebirth-build-"))
        self._numbers = count()

    @property
    def slots(self) -> int:
        """How many it builds at a time."""
        return self._pool.size

    def submit(self, module: IRModule) -> "Future[Built]":
        """Put a candidate in the queue; one that crashes, hangs or does not compile gives a failure.

        The future holds a ``TuningError`` if no worker process can be started any more, and is cancelled if
        the builder is closed before the candidate was built.
        """
        path = self._folder / str(next(self._numbers)) / LIBRARY
        call = Call(build_candidate, (module, self._recipe, str(path)), self._seconds, self._memory_bytes)
        future: Future[Built] = Future()
        self._pool.submit(call).add_done_callback(partial(_pass_on, future, path))
        return future

    def close(self) -> None:
        """End the workers and remove what they built."""
        self._pool.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _pass_on(future: "Future[Built]", path: Path, made: "Future[Outcome]") -> None:
    if made.cancelled():
        future.cancel()
    if not future.set_running_or_notify_cancel():
        return
    error = made.exception()
    if error is None:
        future.set_result(_built(path, made.result()))
    else:
        future.set_exception(error)


def _built(path: Path, outcome: Outcome) -> Built:
    why = failure(outcome)
    if why is None:
        return Built(path, seconds=outcome.seconds)
    shutil.rmtree(path.parent, ignore_errors=True)
    return Built(None, why, outcome.seconds)
