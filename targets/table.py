"""The table of targets. A new board is a new row."""

import difflib
import platform

from targets.info import TargetError, TargetInfo

_TABLE = (
    TargetInfo(
        name="host",
        description="this machine's processor, all its cores",
        triple=f"{platform.machine()}-linux-gnu",
        cpu="native",
    ),
)


def all_targets() -> tuple[TargetInfo, ...]:
    """Return every known target, in the order of the table."""
    return _TABLE


def find(name: str) -> TargetInfo:
    """Return the target called ``name``.

    Raises
    ------
    TargetError
        If there is none; the message names those there are.
    """
    rows = {row.name: row for row in _TABLE}
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name, rows, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise TargetError(f"unknown target {name!r}: known targets are {', '.join(rows)}{hint}")
