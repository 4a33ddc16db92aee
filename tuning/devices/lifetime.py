"""Runs a server until it is told to end."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress


def run_until_told(server: Coroutine[None, None, None], watched: int | None = None) -> None:
    """Run a server until SIGINT or SIGTERM comes, or the other end of a pipe is closed.

    Parameters
    ----------
    server : coroutine
        It is cancelled, and cleans up then.
    watched : int, optional
        File descriptor of the pipe.
    """
    asyncio.run(_until_told(server, watched))


async def _until_told(server: Coroutine[None, None, None], watched: int | None) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    if watched is not None:
        loop.add_reader(watched, lambda: None if os.read(watched, 1) else told.set())
    serving, waiting = asyncio.create_task(server), asyncio.create_task(told.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, waiting):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await serving
