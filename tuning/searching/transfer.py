"""What earlier runs found, for functions that they did not tune.

Two functions are alike if they have the same blocks with the same kinds of axes and differ in sizes only. The
best schedule of one is tried on the other: its tile sizes are moved to the nearest ones that divide.

Earlier runs are those of the user's own database, and those whose records come with the package.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import log
from typing import Any, Protocol

from tvm.ir import IRModule
from tvm.s_tir import Schedule, Trace
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import LoopRV

from tuning.records.database import best_seconds
from tuning.searching.blocking import divisors_of
from tuning.searching.nest import blocks_of

Structure = tuple[tuple[str, tuple[int, ...], int], ...]
_SAMPLE_TILE = "SamplePerfectTile"


class Record(Protocol):
    """A schedule that was measured; MetaSchedule's ``TuningRecord`` is one."""

    @property
    def trace(self) -> Trace:
        """Its steps and decisions."""


@dataclass(frozen=True)
class Known:
    """A function and its best record.

    Attributes
    ----------
    structure : Structure
        Its blocks with the kinds of their axes and the number of their inputs.
    extents : tuple of int
        Of all axes.
    record : Record
    seconds : float
        The record's time.
    """

    structure: Structure
    extents: tuple[int, ...]
    record: Record
    seconds: float


@dataclass
class Experience:
    """The best record of each function that is known, by structure.

    Attributes
    ----------
    known : dict
        Lists of functions with their records, by the functions' structure.
    """

    known: dict[Structure, list[Known]] = field(default_factory=dict)

    @classmethod
    def of(cls, database: ms.database.Database, starting: Iterable[Known] = ()) -> "Experience":
        """Read a database once, for all tasks.

        Parameters
        ----------
        database : Database
        starting : iterable of Known
            What is known besides; at equal distance it comes after what the database knows.
        """
        experience = cls()
        for each in (*best_of(database), *starting):
            experience.known.setdefault(each.structure, []).append(each)
        return experience

    def records_like(self, module: IRModule, most: int) -> list[Record]:
        """Return the best records of functions that are like this one but not of its sizes, nearest first."""
        structure, extents = structure_of(module)
        others = [each for each in self.known.get(structure, []) if each.extents != extents]
        return [
            each.record for each in sorted(others, key=lambda each: _distance(each.extents, extents))[:most]
        ]

    def records_of_its_sizes(self, module: IRModule) -> list[Record]:
        """Return the best records of functions that are like this one, of its sizes too."""
        structure, extents = structure_of(module)
        return [each.record for each in self.known.get(structure, []) if each.extents == extents]


def best_of(database: ms.database.Database) -> list[Known]:
    """Return the best record of each function of a database."""
    best: dict[ms.database.Workload, tuple[float, ms.database.TuningRecord]] = {}
    for record in database.get_all_tuning_records():
        seconds = best_seconds(record.run_secs)
        if seconds is not None and seconds < best.get(record.workload, (float("inf"),))[0]:
            best[record.workload] = (seconds, record)
    return [
        Known(*structure_of(workload.mod), record, seconds) for workload, (seconds, record) in best.items()
    ]


def structure_of(module: IRModule) -> tuple[Structure, tuple[int, ...]]:
    """Return the blocks of a function with the kinds of their axes, and the extents of all axes."""
    blocks = blocks_of(Schedule(module, debug_mask="none"))
    structure = tuple(
        (str(block.name_hint), tuple(int(axis.iter_type) for axis in block.iter_vars), len(block.reads))
        for block in blocks
    )
    return structure, tuple(_extents(blocks))


def snapped(schedule: Schedule) -> Callable[..., Any]:
    """Return what moves a trace's tile sizes to the nearest that divide the loops of this schedule."""

    def decide(instruction: Any, inputs: list[Any], attributes: list[Any], decision: Any) -> Any:
        if str(instruction.kind.name) != _SAMPLE_TILE:
            return decision
        (loop,) = (each for each in inputs if isinstance(each, LoopRV))
        wished = [int(each) for each in decision]
        return nearest_tiles(int(schedule.get(loop).extent), wished, int(attributes[1]))

    return decide


def fitting(schedule: Schedule) -> Callable[..., Any]:
    """Return what keeps a trace's tile sizes but the outermost; ``decide`` raises if they do not divide."""
    move = snapped(schedule)

    def decide(instruction: Any, inputs: list[Any], attributes: list[Any], decision: Any) -> Any:
        moved = move(instruction, inputs, attributes, decision)
        if str(instruction.kind.name) == _SAMPLE_TILE and moved[1:] != [int(each) for each in decision][1:]:
            raise ValueError("the tiles do not fit")
        return moved

    return decide


def nearest_tiles(extent: int, wished: list[int], largest: int) -> list[int]:
    """Return factors of an extent near the wished ones, the innermost nearest and not above ``largest``.

    The outermost takes what is left.
    """
    inner: list[int] = []
    left = extent
    for place, wish in enumerate(reversed(wished[1:])):
        fitting = [each for each in divisors_of(left) if place > 0 or each <= largest]
        inner.append(min(fitting, key=lambda each: abs(log(each / wish))))
        left //= inner[-1]
    return [left, *reversed(inner)]


def _extents(blocks: list[Any]) -> Iterator[int]:
    for block in blocks:
        yield from (int(axis.dom.extent) for axis in block.iter_vars)


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return sum(abs(log(a / b)) for a, b in zip(one, other, strict=True))
