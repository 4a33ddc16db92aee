"""Lines of JSON in a file: read with care, written whole."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuning.errors import TuningError


def read(path: Path) -> list[str]:
    """Return the lines of a text file without their ends; a missing file has none."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        return []
    return text.removesuffix("\n").split("\n") if text else []


def write(path: Path, lines: Iterable[str]) -> None:
    """Make the file hold these lines, atomically; one that holds them already is left alone."""
    content = _content(lines)
    if _holds(path, content):
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def holds(path: Path, lines: Iterable[str]) -> bool:
    """Tell whether the file is there and holds these lines, byte by byte."""
    return _holds(path, _content(lines))


def append(path: Path, line: str) -> None:
    """Add a line in one write; what an earlier write left unfinished stays a line of its own.

    Raises
    ------
    OSError
        If not all of it could be written.
    """
    content = f"{line}\n".encode()
    if not is_ended(path):
        content = b"\n" + content
    with open(path, "ab", buffering=0) as file:
        if file.write(content) != len(content):
            raise OSError("the disk took a part of a line only: is it full?")


def is_ended(path: Path) -> bool:
    """Tell whether the last line of a file has its end; a missing or empty file has no line without one."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def add_missing(path: Path, lines: Iterable[str]) -> None:
    """Add those of the lines that the file does not hold; without any, no file is made."""
    there = read(path)
    missing = [line for line in dict.fromkeys(lines) if line not in set(there)]
    if missing:
        write(path, [*there, *missing])


def parse(line: str) -> Any:
    """Parse strict JSON: NaN and infinities are none, and a line that is no JSON gives None."""
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def dump(value: Any) -> str:
    """Return the shortest JSON of a value, in one line."""
    return json.dumps(value, separators=(",", ":"))


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tell an error of the operating system in one line, as a ``TuningError``."""
    try:
        yield
    except OSError as error:
        raise TuningError(f"{what}: {error.strerror or error}") from None


def _content(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
