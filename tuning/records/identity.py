"""Which records belong together: those of one target, one version of TVM and one method of measuring.

They share a directory, whose name is the digest of the three; ``about.json`` in it says them in words. Until
method 2 the name was the digest of the target alone.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi

from tuning.records import lines

RECORDS = "database_tuning_record.json"
WORKLOADS = "database_workload.json"
ABOUT = "about.json"
MEASURING = 2
"""The method of measuring; it goes up when times of before and after cannot be compared."""

_TARGET, _VERSIONS = "target", ("tvm", "measuring")


def target_identity(target: Any) -> dict[str, Any]:
    """Return the fields of an exported target, its host included, that decide what code is made for it."""
    fields = {key: value for key, value in dict(target).items() if key not in ("tag", "keys")}
    return {key: _plain(value) for key, value in fields.items()}


def directory(base: Path, target: tvm.target.Target) -> Path:
    """Return the directory of a target's records below ``base``."""
    return base / _digest(_about(target))


def describe(folder: Path, target: tvm.target.Target) -> None:
    """Say in the directory itself what its records are of."""
    lines.write(folder / ABOUT, [json.dumps(_about(target), sort_keys=True)])


def is_ours(folder: Path, target: tvm.target.Target) -> bool:
    """Tell whether a directory's records can be used: it says nothing of versions, or says the same."""
    about = _read(folder)
    return about is None or all(about.get(key) == _about(target)[key] for key in _VERSIONS)


def is_described(folder: Path) -> bool:
    """Tell whether a directory says what its records are of."""
    return _read(folder) is not None


def other_versions(base: Path, target: tvm.target.Target) -> int:
    """Count the records of this target below ``base`` that other versions made."""
    return sum(count(folder) for folder in _siblings(base, target) if _is_of(folder, target))


def other_targets(base: Path, target: tvm.target.Target) -> int:
    """Count the records below ``base`` that are of other targets."""
    return sum(count(folder) for folder in _siblings(base, target) if not _is_of(folder, target))


def databases(base: Path) -> list[Path]:
    """Return the directories right below ``base`` that hold a database."""
    return sorted(path.parent for path in base.glob(f"*/{RECORDS}"))


def count(folder: Path) -> int:
    """Count the lines of a directory's records."""
    return len(lines.read(folder / RECORDS))


def _plain(value: Any) -> Any:
    if isinstance(value, dict | tvm_ffi.Map):
        return target_identity(value)
    return [*map(str, value)] if isinstance(value, list | tuple | tvm_ffi.Array) else value


def _siblings(base: Path, target: tvm.target.Target) -> Iterator[Path]:
    own = directory(base, target)
    return (folder for folder in databases(base) if folder != own)


def _is_of(folder: Path, target: tvm.target.Target) -> bool:
    identity = target_identity(target.export())
    about = _read(folder)
    return folder.name == _digest(identity) if about is None else about.get(_TARGET) == identity


def _about(target: tvm.target.Target) -> dict[str, Any]:
    return {
        _TARGET: target_identity(target.export()),
        "tvm": str(tvm.__version__),
        "measuring": MEASURING,
    }


def _read(folder: Path) -> dict[str, Any] | None:
    """Return what a directory says of itself; None if it says nothing that can be read."""
    about = lines.parse("\n".join(lines.read(folder / ABOUT)))
    return about if isinstance(about, dict) else None


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
