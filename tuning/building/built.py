"""What a builder gives back, and what every builder can do."""

import shutil
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tvm.ir import IRModule

from tuning.failures import Failure


@dataclass(frozen=True)
class Built:
    """A candidate's shared library, or the failure why there is none.

    Attributes
    ----------
    path : Path or None
        The library, in a folder of its own.
    failure : Failure or None
    seconds : float
        How long the build took.
    """

    path: Path | None
    failure: Failure | None = None
    seconds: float = 0.0

    def discard(self) -> None:
        """Remove the library."""
        if self.path is not None:
            shutil.rmtree(self.path.parent, ignore_errors=True)


class Builder(Protocol):
    """Builds candidates, several at a time."""

    @property
    def slots(self) -> int:
        """How many it builds at a time."""
        ...

    def submit(self, module: IRModule) -> "Future[Built]":
        """Put a candidate in the queue; one that crashes, hangs or does not compile gives a failure.

        The future holds a ``TuningError`` if nothing can be built any more.
        """
        ...

    def close(self) -> None:
        """End what builds, and remove what it built."""
        ...
