"""Which of the merges that were found shall be made.

A choice looks at a candidate and returns None, or why it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from relay_passes.merge_plan import Candidate, Kind, MergePlan, Place, Reason, Refusal

Choice = Callable[[Candidate], tuple[Reason, str] | None]


def everything(_candidate: Candidate) -> None:
    """Leave nothing out."""


def exact_only(candidate: Candidate) -> tuple[Reason, str] | None:
    """Leave out what needs retraining."""
    if candidate.exact:
        return None
    return (
        Reason.NEEDS_RETRAINING,
        "changes the outputs until its new weights are trained; give training data",
    )


@dataclass(frozen=True)
class Selection:
    """Merges by name or kind.

    Parameters
    ----------
    only, skip : tuple of str
        Names of merges, in which `*` stands for any letters, or kinds (`streamline`). `only` empty stands for
        all; `skip` wins.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def __call__(self, candidate: Candidate) -> tuple[Reason, str] | None:
        """Why the candidate is left out, if it is."""
        if any(_stands_for(pattern, candidate) for pattern in self.skip):
            return Reason.LEFT_OUT, "skipped on request"
        if self.only and not any(_stands_for(pattern, candidate) for pattern in self.only):
            return Reason.LEFT_OUT, "not among those asked for"
        return None

    def without_meaning(self, plan: MergePlan) -> tuple[str, ...]:
        """Those of its patterns that stand for no entry of a plan that was made with it."""
        entries = (*plan.candidates, *plan.refusals)
        patterns = dict.fromkeys((*self.only, *self.skip))
        return tuple(
            pattern
            for pattern in patterns
            if pattern not in list(Kind) and not any(_stands_for(pattern, entry) for entry in entries)
        )


@dataclass(frozen=True)
class Planned:
    """The merges of a plan."""

    plan: MergePlan

    def __call__(self, candidate: Candidate) -> tuple[Reason, str] | None:
        """Why the candidate is left out, if it is."""
        return (
            None if candidate.place in self._places else (Reason.LEFT_OUT, "not in the plan that was given")
        )

    @cached_property
    def _places(self) -> frozenset[Place]:
        return frozenset(candidate.place for candidate in self.plan.candidates)


def all_of(choices: Sequence[Choice]) -> Choice:
    """What every one of the choices wants."""
    return lambda candidate: next((why for choice in choices if (why := choice(candidate))), None)


def _stands_for(pattern: str, entry: Candidate | Refusal) -> bool:
    return pattern in (entry.kind, entry.name) or fnmatchcase(entry.name, pattern)
