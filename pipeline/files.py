"""Write results so that nothing is ever half written, and nothing of the user's is lost.

A file is written under a temporary name beside its place and renamed into it. A directory of results is
built the same way; a marker file inside it lists what we wrote, and only a directory that holds nothing
else is ever replaced.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError

MARKER = ".deeprebirth"


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 digest of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into one line for the user.

    Raises
    ------
    UserError
        The block raised an OSError.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write to {path}: a file is in the way; choose another place") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write to {path}: {reason}; choose another place") from error


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    UserError
        The file cannot be written there; whatever was there before is untouched.
    """
    path = Path(path)
    temporary = _sibling(path)
    with writing(path):
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file whole or not at all; raises as `write_bytes_atomic` does."""
    write_bytes_atomic(path, text.encode("utf-8"))


def check_writable(directory: str | os.PathLike[str]) -> None:
    """Find out before long work starts whether results can be written into a directory.

    The directory and a file in it are really made, and removed again, since permissions alone do not tell
    of a read-only file system or a name that is too long.

    Raises
    ------
    UserError
        A file is in the way, or the place cannot be written to.
    """
    directory = Path(directory)
    made = [place for place in (directory, *directory.parents) if not os.path.exists(place)]
    probe = directory / f".{secrets.token_hex(4)}.probe"
    with writing(directory):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe.touch(exist_ok=False)
            probe.unlink()
        finally:
            for place in made:
                if place.is_dir():
                    place.rmdir()


def check_replaceable(directory: str | os.PathLike[str]) -> None:
    """Find out whether `fresh_directory` may put a new result in this place.

    Raises
    ------
    UserError
        It is a file, a mount point, the current directory, or holds files that we did not write.
    """
    place = Path(os.path.realpath(directory))
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"cannot write to {directory}: a file is in the way; choose another place")
    if place.is_mount() or place == Path.cwd():
        raise UserError(f"cannot replace {directory} as a whole: name a directory inside it")
    if foreign := sorted(_contents(place) - _ours(place)):
        raise UserError(
            f"{directory} holds files that deeprebirth did not write ({', '.join(foreign[:3])}): "
            "move them away or choose another directory"
        )


@contextmanager
def fresh_directory(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Build a directory under a temporary name; it takes its place when the block ends well.

    An older result of ours in that place is replaced. When the block raises, nothing has changed.

    Yields
    ------
    Path
        The temporary directory to write into.

    Raises
    ------
    UserError
        As `check_replaceable`, or the place cannot be written to.
    """
    check_replaceable(directory)
    place = Path(os.path.realpath(directory))
    temporary = _sibling(place)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        yield temporary
        _sign(temporary)
        check_replaceable(directory)
        with writing(place):
            _swap(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, place: Path) -> None:
    old = _sibling(place)
    if place.exists():
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sign(directory: Path) -> None:
    write_text_atomic(directory / MARKER, json.dumps(sorted(_contents(directory) | {MARKER})) + "\n")


def _ours(directory: Path) -> set[str]:
    try:
        written = json.loads((directory / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {str(name) for name in written} if isinstance(written, list) else set()


def _contents(directory: Path) -> set[str]:
    """Everything but directories, relative to the directory, with forward slashes."""
    return {
        (Path(folder) / name).relative_to(directory).as_posix()
        for folder, folders, names in os.walk(directory)
        for name in (*names, *(each for each in folders if (Path(folder) / each).is_symlink()))
    }


def _sibling(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.tmp")
