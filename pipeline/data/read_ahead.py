"""Make things in one background thread while others are used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline.errors import UserError

Made = TypeVar("Made")
Job = Callable[[], Made]

DEPTH = 2
PATIENCE_S = 600.0
ENDING_S = 10.0
_DONE = object()


def read_ahead(jobs: Iterable[Job[Made]]) -> Iterator[Made]:
    """Yield what jobs make, in their order; up to `DEPTH` results wait to be used.

    The thread ends when the iterator is closed or exhausted. What a job raises is raised here.

    Raises
    ------
    UserError
        A job takes longer than ten minutes.
    """
    made: queue.Queue = queue.Queue(DEPTH)
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(iter(jobs), made, stop), name="read ahead", daemon=True)
    thread.start()
    try:
        while (result := _next(made)) is not _DONE:
            yield result
    finally:
        stop.set()
        _empty(made)
        thread.join(ENDING_S)


def _next(made: queue.Queue) -> object:
    try:
        result, error = made.get(timeout=PATIENCE_S)
    except queue.Empty:
        raise UserError(f"reading a batch of data takes longer than {PATIENCE_S / 60:.0f} minutes") from None
    if error is not None:
        raise error
    return result


def _work(jobs: Iterator[Job[Made]], made: queue.Queue, stop: threading.Event) -> None:
    """Put (result, error) until a job fails, none is left, or nobody wants more."""
    while not stop.is_set():
        try:
            job = next(jobs, None)
            outcome = (_DONE if job is None else job(), None)
        except BaseException as error:
            outcome = (_DONE, error)
        made.put(outcome)
        if outcome[0] is _DONE:
            return


def _empty(made: queue.Queue) -> None:
    """Make room for the last result of a thread that was told to stop."""
    while True:
        try:
            made.get_nowait()
        except queue.Empty:
            return
