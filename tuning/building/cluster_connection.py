"""Connects to a Dask cluster, and refuses one that cannot build for a target, in one line.

The questions to the workers are functions of the standard library, so that a worker without this package can
answer them too.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from targets import TargetInfo
from tuning.building.cluster_worker import versions
from tuning.errors import Mistake, TuningError

if TYPE_CHECKING:
    from distributed import Client, Future

ANSWER_SECONDS = 30.0


def connect(address: str, target: TargetInfo, wait_seconds: float) -> "Client":
    """Connect to a scheduler and check its workers.

    Parameters
    ----------
    address : str
        Such as ``tcp://scheduler:8786``.
    target : TargetInfo
        What the workers are to build for.
    wait_seconds : float
        How long to wait for the scheduler to answer, and for a first worker.

    Raises
    ------
    TuningError
        If no scheduler answers, it has no workers, or a worker lacks a package or the target's compiler, or
        has another version of a package.
    """
    client = _client(address, wait_seconds)
    try:
        workers = _workers(client, address, wait_seconds)
        for package, wanted in versions().items():
            for worker, found in _ask(client, workers, metadata.version, package).items():
                _check_version(worker, package, wanted, found)
        for worker, found in _ask(client, workers, shutil.which, target.compiler).items():
            if not isinstance(found, str):
                raise TuningError(
                    f"the Dask worker {worker} lacks the compiler {target.compiler}: "
                    f"install the package {target.compiler_package} there"
                )
    except BaseException:
        client.close(timeout=ANSWER_SECONDS)
        raise
    return client


def _client(address: str, wait_seconds: float) -> "Client":
    try:
        from distributed import Client
    except ImportError:
        raise Mistake(
            "building on a cluster needs the package distributed: run python -m pip install distributed"
        ) from None
    try:
        # It writes the traceback of a lost connection to standard error; the builder tells it in one line.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        asyncio.run(_greet(address, wait_seconds))
        return Client(address, timeout=wait_seconds, set_as_default=False, name="deeprebirth")
    except Exception as error:
        raise Mistake(
            f"no Dask scheduler answers at {address} ({in_one_line(error)}): "
            f"start one with `dask scheduler`, or check the address"
        ) from None


async def _greet(address: str, seconds: float) -> None:
    """Exchange the greetings of Dask's protocol: ``Client`` waits for them without a bound."""
    from distributed import Security
    from distributed.comm import connect

    security = Security().get_connection_args("client")
    async with asyncio.timeout(seconds):
        connection = await connect(address, timeout=seconds, **security)
        await connection.close()


def _workers(client: "Client", address: str, wait_seconds: float) -> list[str]:
    try:
        client.wait_for_workers(1, timeout=wait_seconds)
        return list(client.nthreads(callback_timeout=ANSWER_SECONDS))
    except OSError:
        raise TuningError(
            f"the Dask cluster at {address} has no workers: start some with `dask worker {address}`"
        ) from None


def _ask(client: "Client", workers: list[str], function: Callable[..., Any], *arguments: Any) -> dict:
    """Return what a function gives at each worker: its value, or what it raised."""
    asked = {worker: client.submit(function, *arguments, workers=[worker], pure=False) for worker in workers}
    return {worker: _answer(worker, future) for worker, future in asked.items()}


def _answer(worker: str, future: "Future") -> Any:
    try:
        return future.result(timeout=ANSWER_SECONDS)
    except TimeoutError:
        raise TuningError(
            f"the Dask worker {worker} did not answer within {ANSWER_SECONDS:g} s: stop it or start it again"
        ) from None
    except Exception as error:
        return error


def _check_version(worker: str, package: str, wanted: str, found: Any) -> None:
    if found != wanted:
        there = f"has {package} {found}" if isinstance(found, str) else f"lacks the package {package}"
        raise TuningError(
            f"the Dask worker {worker} {there}: install {package} {wanted} there and start it again"
        )


def in_one_line(error: Exception) -> str:
    """Return an error's message without its line breaks, or its name if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
