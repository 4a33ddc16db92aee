"""What worker processes tell while they measure: the device they got, and how far a transfer is.

A call of a worker has one answer, at its end. So the news go through a named pipe that all workers write
lines of JSON into; each line is short enough for the system to keep it whole.
"""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_LONGEST_TEXT = 500
_END = "\n"


@dataclass(frozen=True)
class News:
    """A line from the worker that does a job: the device it got, or a text for the user."""

    job: int
    address: str | None = None
    text: str | None = None


def tell(pipe: Path, news: News) -> None:
    """Write news into the pipe; nothing happens if nobody reads it any more or the pipe is full."""
    text = None if news.text is None else news.text[:_LONGEST_TEXT]
    line = json.dumps(asdict(news) | {"text": text}) + _END
    with suppress(OSError):
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, line.encode("ascii"))
        finally:
            os.close(descriptor)


class NewsDesk:
    """The end of the pipe that reads; ``close`` removes it.

    Parameters
    ----------
    hear : callable
        Called with each piece of news, in a thread of its own.

    Attributes
    ----------
    pipe : Path
        What workers write to.
    """

    def __init__(self, hear: Callable[[News], None]) -> None:
        self._hear = hear
        self._folder = Path(tempfile.mkdtemp(prefix="deeprebirth-news-"))
        self.pipe = self._folder / "news"
        os.mkfifo(self.pipe, 0o600)
        descriptor = os.open(self.pipe, os.O_RDWR)
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End reading and remove the pipe."""
        with suppress(OSError):
            self.pipe.write_text(_END, encoding="ascii")
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="ascii") as lines:
            while (line := lines.readline()) != _END:
                self._hear(News(**json.loads(line)))
