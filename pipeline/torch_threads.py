"""Run torch on one thread.

Its threads wait for each other after every layer. On small layers two of them save nothing, and where another
process takes a core, each layer waits until that core is free again: a network took thirty times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch use one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
