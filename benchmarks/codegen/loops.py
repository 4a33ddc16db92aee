"""Finds the loops of a piece of code by its branches backwards, and counts what their bodies hold.

A branch to an earlier address closes a loop; its body is what lies between. A loop that holds no other is an
inner loop.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from codegen.instructions import Instruction


@dataclass(frozen=True)
class Counts:
    """How many instructions, how many multiply-adds they do, and what they move.

    Attributes
    ----------
    instructions : int
    in_vectors, in_scalars : int
        Multiply-adds: lanes of vector instructions, and scalar instructions.
    moved_bytes : int
        Loaded and stored, from caches too.
    """

    instructions: int
    in_vectors: int
    in_scalars: int
    moved_bytes: int = 0

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of both kinds."""
        return self.in_vectors + self.in_scalars

    @property
    def vector_share(self) -> float:
        """Share of the multiply-adds that are done in vectors; without any it is 0."""
        return self.in_vectors / self.multiply_adds if self.multiply_adds else 0.0


@dataclass(frozen=True)
class Loop:
    """A loop's body, its first and last address, and how many loops it lies in."""

    first: int
    last: int
    depth: int
    body: tuple[Instruction, ...]


def count(code: Iterable[Instruction], runs: Callable[[int], int] = lambda address: 1) -> Counts:
    """Count what code holds, each instruction as often as it ran.

    Parameters
    ----------
    code : iterable of Instruction
    runs : callable
        Given an address, tells how often it ran; without it each instruction counts once.
    """
    weighted = [(each, runs(each.address)) for each in code]
    return Counts(
        sum(times for _, times in weighted),
        sum(times * each.vector_lanes for each, times in weighted),
        sum(times * each.scalars for each, times in weighted),
        sum(times * each.moved_bytes for each, times in weighted),
    )


def inner_loops(code: Sequence[Instruction]) -> list[Loop]:
    """Return the loops that hold no other, in the order of their addresses."""
    ends: dict[int, int] = {}
    for each in code:
        if each.jumps_to is not None and each.jumps_to <= each.address:
            ends[each.jumps_to] = max(each.address, ends.get(each.jumps_to, 0))
    spans = sorted(ends.items())
    return [_loop(code, span, spans) for span in spans if _is_inner(span, spans)]


def inner_loop(code: Sequence[Instruction], runs: Callable[[int], int] | None = None) -> Loop | None:
    """Return the inner loop that matters; None if there is none.

    Parameters
    ----------
    code : sequence of Instruction
    runs : callable, optional
        How often an address ran: the loop that executed most instructions is returned. Without it, of the
        loops that multiply and add the one that lies deepest, of several the one that does most in a turn.
    """
    loops = inner_loops(code)
    if runs is not None:
        return max(loops, key=lambda loop: count(loop.body, runs).instructions, default=None)
    return max(loops, key=_static_weight, default=None)


def _static_weight(loop: Loop) -> tuple[bool, int, int]:
    counts = count(loop.body)
    return counts.multiply_adds > 0, loop.depth, counts.multiply_adds


def _loop(code: Sequence[Instruction], span: tuple[int, int], spans: list[tuple[int, int]]) -> Loop:
    first, last = span
    body = tuple(each for each in code if first <= each.address <= last)
    return Loop(first, last, len(_holders(span, spans)) - 1, body)


def _holders(span: tuple[int, int], spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans that hold this one, itself among them."""
    return [each for each in spans if each[0] <= span[0] and span[1] <= each[1]]


def _is_inner(span: tuple[int, int], spans: list[tuple[int, int]]) -> bool:
    return not any(each != span and span[0] <= each[0] and each[1] <= span[1] for each in spans)
