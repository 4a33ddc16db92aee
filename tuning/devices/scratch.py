"""Folders of sessions, which are gone when their session is, and at the latest when the next server starts.

A server's folder is locked as long as the server lives, so that those of killed servers are known.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "deeprebirth-rpc-"
_UNLOCKED_PREFIX = "deeprebirth-new-"


@contextmanager
def server_folder() -> Iterator[Path]:
    """Make a folder for a server's sessions, and remove those that killed servers left."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED_PREFIX))
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(base / made.name.replace(_UNLOCKED_PREFIX, _PREFIX, 1))
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


@contextmanager
def session_folder(base: Path) -> Iterator[Path]:
    """Make a folder for one session and remove it, and what the session left in it, at the end."""
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(lock)
