"""Runs side by side, each a process of its own that ends when this one does.

A child's standard input is a watch pipe: when this process is gone, by whatever end, the pipe ends too.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence

HOURS = 12
"""Limit for one run."""


class ChildFailed(Exception):
    """A child ended badly, or took too long."""


def outputs_of(commands: Mapping[str, Sequence[str]], jobs: int) -> dict[str, str]:
    """Run commands, so many at a time, and return what each printed.

    Parameters
    ----------
    commands : mapping of str to sequence of str
        By a name for each; the first are started first.
    jobs : int

    Raises
    ------
    ChildFailed
        When the others have ended; the message names those that failed.
    """
    found = asyncio.run(_all_of(commands, jobs))
    if failed := [f"{name} ({each})" for name, each in found.items() if isinstance(each, ChildFailed)]:
        raise ChildFailed(f"failed: {', '.join(failed)}; the same command goes on with what is left")
    return found


def end_with_parent() -> None:
    """End this process, a child, as soon as its standard input ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


async def _all_of(commands: Mapping[str, Sequence[str]], jobs: int) -> dict[str, str | ChildFailed]:
    slots = asyncio.Semaphore(jobs)

    async def output(name: str, command: Sequence[str]) -> str | ChildFailed:
        async with slots:
            print(f"{name}: begins", file=sys.stderr)
            try:
                return await _output_of(command)
            except ChildFailed as error:
                return error
            finally:
                print(f"{name}: ends", file=sys.stderr)

    found = await asyncio.gather(*(output(name, command) for name, command in commands.items()))
    return dict(zip(commands, found, strict=True))


async def _output_of(command: Sequence[str]) -> str:
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, start_new_session=True)
    try:
        async with asyncio.timeout(HOURS * 3600):
            printed = await child.stdout.read()
            code = await child.wait()
    except TimeoutError:
        raise ChildFailed(f"not done after {HOURS} hours") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if code:
        raise ChildFailed(f"exit code {code}, see above")
    return printed.decode()
