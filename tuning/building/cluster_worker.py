"""What a Dask worker does with a candidate: it builds it in a child process and sends the library back.

A compiler that crashes or eats memory ends the child and not the Dask worker, which has one child for each of
its threads.
"""

import tempfile
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import tvm

from tuning.building.candidate import LIBRARY, Recipe, build_candidate
from tuning.building.limits import BUILDS_PER_WORKER, failure
from tuning.errors import TuningError
from tuning.failures import Failure
from tuning.worker import Call
from tuning.workers import WorkerPool

PACKAGES = ("deeprebirth", "apache-tvm", "apache-tvm-ffi")


@dataclass(frozen=True)
class Terms:
    """What all builds that a tuner sends have in common.

    Attributes
    ----------
    recipe : Recipe
    seconds : float
        A build that takes longer is ended.
    memory_bytes : int
        A build whose process holds more is ended.
    versions : dict of str to str
        Versions of ``PACKAGES`` that the tuner has.
    """

    recipe: Recipe
    seconds: float
    memory_bytes: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Shipped:
    """A library's bytes, or the failure why there are none, and the seconds it took."""

    library: bytes | None
    failure: Failure | None
    seconds: float


def versions() -> dict[str, str]:
    """Return the versions of ``PACKAGES`` in this process."""
    return {package: metadata.version(package) for package in PACKAGES}


def build_on_worker(module: str, terms: Terms) -> Shipped:
    """Build a candidate, given as JSON.

    Raises
    ------
    TuningError
        If this worker has other versions than the tuner, or cannot start a process.
    """
    if versions() != terms.versions:
        raise TuningError(f"a Dask worker has {versions()}, and not {terms.versions}: install these there")
    with tempfile.TemporaryDirectory(prefix="deeprebirth-build-") as folder:
        path = Path(folder) / LIBRARY
        arguments = (module, terms.recipe, str(path))
        outcome = _pool().submit(Call(build_from_json, arguments, terms.seconds, terms.memory_bytes)).result()
        why = failure(outcome)
        return Shipped(path.read_bytes() if why is None else None, why, outcome.seconds)


def build_from_json(module: str, recipe: Recipe, path: str) -> Failure | None:
    """Build a candidate, given as JSON, as ``build_candidate`` does."""
    return build_candidate(tvm.ir.load_json(module), recipe, path)


_lock = threading.Lock()
_pools: list[WorkerPool] = []


def _pool() -> WorkerPool:
    """Return the child processes of this Dask worker; they end with it."""
    from distributed import get_worker

    with _lock:
        if not _pools:
            _pools.append(WorkerPool(get_worker().state.nthreads, BUILDS_PER_WORKER))
        return _pools[0]
