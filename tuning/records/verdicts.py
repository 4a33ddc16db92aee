"""Verdicts: which schedules were compared with the untuned function on a device, and what was found.

They stand in a file of JSON lines in the target's directory, one line a schedule, and are only ever added.
The key is the workload's structural hash and the trace's key. A schedule that was wrong once stays banned,
whatever is found later: it is never measured again and never compiled.
"""

import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from tuning.records import lines
from tuning.records.keys import trace_key

VERDICTS = "verdicts.json"


class Judgement(StrEnum):
    """What comparing a schedule with the untuned function gave."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Verdict:
    """A judgement and the numbers behind it.

    Attributes
    ----------
    judgement : Judgement
    difference : float or None
        The largest absolute difference, relative to the largest magnitude of the untuned function's output;
        None if there is no such number.
    tolerance : float or None
        Up to which difference it is right; None if none was needed.
    detail : str
        Why there is no difference, in words.
    """

    judgement: Judgement
    difference: float | None = None
    tolerance: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        if self.detail or self.difference is None:
            return f"{self.judgement}: {self.detail}" if self.detail else str(self.judgement)
        return f"{self.judgement}: differs by {self.difference:.3g}, allowed are {self.tolerance:.3g}"


Key = tuple[str, str]


class Verdicts:
    """The verdicts of a directory; ``add`` writes into its file, from several threads if need be.

    Attributes
    ----------
    bad_lines : tuple of str
        Lines of the file that are no verdicts.
    """

    def __init__(self, path: Path, known: dict[Key, Verdict], bad_lines: Iterable[str] = ()) -> None:
        self._path = path
        self._known = known
        self._adding = threading.Lock()
        self.bad_lines = tuple(bad_lines)

    def verdict_of(self, workload: ms.database.Workload, trace: tvm.s_tir.Trace) -> Verdict | None:
        """Return what is known of a schedule; None if it was never compared."""
        return self._known.get((hash_of(workload), trace_key(trace)))

    def add(self, workload: ms.database.Workload, trace: tvm.s_tir.Trace, verdict: Verdict) -> None:
        """Keep a verdict, in the file too; one that a schedule is wrong is final.

        Raises
        ------
        TuningError
            If the file cannot be written.
        """
        key = (hash_of(workload), trace_key(trace))
        with self._adding, lines.told(f"cannot write the verdicts {self._path}"):
            if self._known.get(key) == verdict or self.is_banned(key):
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lines.append(self._path, _line(key, verdict))
            self._known[key] = verdict

    def adopt_bans(self, others: "Iterable[Verdicts]") -> int:
        """Ban what others ban; return how many schedules were not banned here. The file changes as a whole.

        Raises
        ------
        TuningError
            If the file cannot be written.
        """
        bans = {key: verdict for each in others for key, verdict in each.bans.items()}
        new = {key: verdict for key, verdict in bans.items() if not self.is_banned(key)}
        self._known |= new
        if new:
            with lines.told(f"cannot write the verdicts {self._path}"):
                lines.write(self._path, [*self.lines(), *self.bad_lines])
        return len(new)

    def banned(self, workload: ms.database.Workload) -> frozenset[str]:
        """Return the trace keys of a workload's schedules that are wrong."""
        wanted = hash_of(workload)
        return frozenset(trace for digest, trace in self.bans if digest == wanted)

    def is_banned(self, key: Key) -> bool:
        """Tell whether a schedule is wrong."""
        return key in self._known and self._known[key].judgement is Judgement.WRONG

    @property
    def bans(self) -> dict[Key, Verdict]:
        """The schedules that are wrong."""
        return {key: verdict for key, verdict in list(self._known.items()) if self.is_banned(key)}

    def lines(self) -> Iterator[str]:
        """Return a line for each schedule, without those that were replaced or are no verdicts."""
        return (_line(key, verdict) for key, verdict in self._known.items())


def read(folder: Path) -> Verdicts:
    """Read the verdicts of a target's directory; without a file there are none.

    Raises
    ------
    TuningError
        If the file cannot be read.
    """
    known: dict[Key, Verdict] = {}
    bad: list[str] = []
    with lines.told(f"cannot read the verdicts {folder / VERDICTS}"):
        there = lines.read(folder / VERDICTS)
    for line in there:
        entry = _entry(line)
        if entry is None:
            bad.append(line)
        elif entry[0] not in known or known[entry[0]].judgement is not Judgement.WRONG:
            known[entry[0]] = entry[1]
    return Verdicts(folder / VERDICTS, known, bad)


def hash_of(workload: ms.database.Workload) -> str:
    """Return a workload's structural hash, as TVM writes it."""
    return str(workload.as_json()[0])


def _line(key: Key, verdict: Verdict) -> str:
    fields = {
        "workload": key[0],
        "trace": key[1],
        "verdict": verdict.judgement.value,
        "difference": verdict.difference,
        "tolerance": verdict.tolerance,
        "detail": verdict.detail,
    }
    return lines.dump({name: value for name, value in fields.items() if value not in (None, "")})


def _entry(line: str) -> tuple[Key, Verdict] | None:
    match lines.parse(line):
        case {"workload": str(workload), "trace": str(trace), "verdict": str(judgement), **rest} if (
            judgement in set(Judgement)
            and _is_amount(rest.get("difference"))
            and _is_amount(rest.get("tolerance"))
        ):
            detail = str(rest.get("detail", ""))
            verdict = Verdict(Judgement(judgement), rest.get("difference"), rest.get("tolerance"), detail)
            return (workload, trace), verdict
    return None


def _is_amount(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value) and value >= 0)
