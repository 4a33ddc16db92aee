"""How a session with a device ended."""

import json
import os
import signal
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Ending:
    """How the process of a session ended.

    Attributes
    ----------
    session : int
        The session's number on its server.
    signal : str or None
        The signal that ended it, such as ``SIGILL``; None if it ended by itself.
    code : int or None
        Its exit code; None if a signal ended it.
    late : bool
        Whether the server ended it, as its time was over.
    """

    session: int
    signal: str | None = None
    code: int | None = None
    late: bool = False

    @classmethod
    def of(cls, session: int, status: int, late: bool) -> Self:
        """Read what ``os.waitpid`` says."""
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return cls(session, code=code, late=late)
        return cls(session, signal=_name(-code), late=late)

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what ``to_json`` wrote; None if it is something else, ``null`` for example."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        if self.late:
            return "its time was over"
        return f"ended by {self.signal}" if self.signal else f"ended with code {self.code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
