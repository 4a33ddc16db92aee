"""Holds Ctrl-C back while TVM runs.

Python raises KeyboardInterrupt between two of its instructions. If that is inside a function that TVM calls
(its cost model, its loggers), TVM swallows the interrupt or turns it into an error without a message. So
calls into TVM are made with the interrupt held back; it is raised as soon as they are over.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Raise a Ctrl-C that comes inside the ``with`` block at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
