"""Run torch on one thread, or a given number of them.

Its threads wait for each other after every layer. On small layers two of them save nothing, and where another
process takes a core, each layer waits until that core is free again: a network took thirty times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def one_thread() -> AbstractContextManager[None]:
    """Make torch use one thread inside the block."""
    return torch_threads(1)


@contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Make torch use a number of threads inside the block; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
