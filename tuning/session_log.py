"""A session's log: one JSON object a line, written as things happen, and read back line by line.

Each line carries the session's id, so that sessions appended to one file are told apart, whatever of it is
damaged. A line is written whole at once: a session that is killed leaves at most one cut line, and the next
one starts on a new line. Trials and notes are all kept; of the states of progress one a second, later one
each half percent of the time, so that the log of a night holds about a thousand of them.
"""

import codecs
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, BinaryIO, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuning.errors import TuningError
from tuning.progress import Line, Note, SessionEnded, SessionStarted, Text, Trial, TuningProgress

LEAST_SECONDS = 1.0
LEAST_SHARE = 1 / 200
LONGEST_LINE = 1 << 20
MOST_PROBLEMS = 5
HOPELESS = 100
"""Bad lines after which a file without a good one is no log."""

Kind = TypeVar("Kind", SessionStarted, TuningProgress, Trial, Note, SessionEnded)


class _Stamped(BaseModel):
    """A line of the file: whose it is, and what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    session: Annotated[Text, Field(min_length=1)]
    line: Annotated[Line, Field(discriminator="kind")]


class SessionLog:
    """Appends a session to a log.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made if they are missing.

    Raises
    ------
    TuningError
        It cannot be written.
    """

    def __init__(self, path: Path):
        self._path, self._id = Path(path), secrets.token_hex(4)
        self._held: TuningProgress | None = None
        self._next = 0.0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
            if _is_cut(self._path):
                self._file.write(b"\n")
        except OSError as error:
            raise self._refused(error) from None

    def write(self, line: Line) -> None:
        """Append a line; a state of progress that comes soon after the last one waits for the end.

        Raises
        ------
        TuningError
            It cannot be written.
        """
        if isinstance(line, TuningProgress):
            self._held = line
            if line.at >= self._next:
                self._write_held()
        else:
            if isinstance(line, SessionEnded):
                self._write_held()
            self._append(line)

    def close(self) -> None:
        """Write what waits, and close the file."""
        if self._file.closed:
            return
        try:
            self._write_held()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_held(self) -> None:
        if self._held is not None:
            self._append(self._held)
            self._next = self._held.at + max(LEAST_SECONDS, LEAST_SHARE * self._held.at)
            self._held = None

    def _append(self, line: Line) -> None:
        data = _Stamped(session=self._id, line=line).model_dump_json().encode() + b"\n"
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> TuningError:
        reason = (error.strerror or str(error)).lower()
        return TuningError(f"cannot write the session's log {self._path}: {reason}; choose another place")


@dataclass(frozen=True)
class LoggedSession:
    """What a log says of one session; `ended` is None if it was killed, or is not done yet."""

    started: SessionStarted
    progress: tuple[TuningProgress, ...]
    trials: tuple[Trial, ...]
    notes: tuple[Note, ...]
    ended: SessionEnded | None


@dataclass(frozen=True)
class Log:
    """A log that was read.

    Attributes
    ----------
    sessions : tuple of LoggedSession
        In the order in which they began.
    bad_lines : int
        Lines that cannot be used.
    problems : tuple of str
        What is wrong with the first of those.
    """

    sessions: tuple[LoggedSession, ...]
    bad_lines: int
    problems: tuple[str, ...]


@dataclass
class _Reading:
    """What was read so far: lines by the id of their session, and what was wrong."""

    lines: dict[str, list[Line]] = field(default_factory=dict)
    bad_lines: int = 0
    problems: list[str] = field(default_factory=list)

    def refuse(self, lines: int, why: str) -> None:
        """Count lines that cannot be used."""
        self.bad_lines += lines
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(why)


def read_log(path: Path) -> Log:
    """Read the sessions of a log; lines that cannot be used are counted, and the first ones explained.

    Raises
    ------
    TuningError
        It cannot be read, is empty, or holds no session.
    """
    path = Path(path)
    if path.is_dir():
        raise TuningError(f"{path} is a folder: give the log of a tuning session, a file of JSON lines")
    if path.exists() and not path.is_file():
        raise TuningError(f"{path} is no regular file: give the log of a tuning session")
    try:
        with path.open("rb") as file:
            reading = _read(file)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TuningError(f"cannot read the log {path}: {reason}; check the path") from None
    return _sorted_out(path, reading)


def _read(file: BinaryIO) -> _Reading:
    reading, number = _Reading(), 0
    while (data := file.readline(LONGEST_LINE)) and (reading.lines or reading.bad_lines < HOPELESS):
        number += 1
        data = data.removeprefix(codecs.BOM_UTF8).strip()
        if data:
            _take(reading, number, data)
    return reading


def _take(reading: _Reading, number: int, data: bytes) -> None:
    try:
        stamped = _Stamped.model_validate_json(data)
    except ValidationError as error:
        reading.refuse(1, f"line {number} {_reason(error)}")
    else:
        reading.lines.setdefault(stamped.session, []).append(stamped.line)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return "is cut or damaged: it is no JSON"
    if first["type"] == "union_tag_invalid":
        return f"is of a kind that is not known: {first['ctx']['tag']!r:.100}"
    place = ".".join(map(str, first["loc"])) or "it"
    return f"is no line of a session: {place:.100}: {first['msg'].lower():.200}"


def _sorted_out(path: Path, reading: _Reading) -> Log:
    """Put together the lines of each session; without its first line nothing is known of it."""
    sessions = []
    for lines in reading.lines.values():
        started = _all(SessionStarted, lines)
        if started:
            ended = _all(SessionEnded, lines)
            sessions.append(
                LoggedSession(
                    started[0],
                    _all(TuningProgress, lines),
                    _all(Trial, lines),
                    _all(Note, lines),
                    ended[-1] if ended else None,
                )
            )
        else:
            reading.refuse(len(lines), f"{len(lines)} lines are of a session whose first line is missing")
    if not sessions:
        why = reading.problems[0] if reading.problems else "it is empty"
        raise TuningError(f"{path} is no log of a tuning session: {why}")
    return Log(tuple(sessions), reading.bad_lines, tuple(reading.problems))


def _all(kind: type[Kind], lines: list[Line]) -> tuple[Kind, ...]:
    return tuple(line for line in lines if isinstance(line, kind))


def _is_cut(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
