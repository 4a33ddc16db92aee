"""The merge steps of a plan: what is merged together before it is retrained, from the bottom to the top.

Merges that make the same convolution reborn belong to one step (a block's branches and the pool behind it),
and so do those that the user groups. Decomposing the convolutions is the last step, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import tvm

from pipeline.errors import UserError
from relay_passes import Candidate, MergePlan
from relay_passes.graph import Graph

TUCKER = "tucker"


@dataclass(frozen=True)
class Step:
    """Merges that are retrained together."""

    name: str
    plan: MergePlan

    @property
    def merges(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(candidate.name for candidate in self.plan.candidates)


def steps_of(module: tvm.IRModule, plan: MergePlan, groups: Sequence[Sequence[str]] = ()) -> tuple[Step, ...]:
    """The steps for all merges of a plan that need retraining.

    Parameters
    ----------
    module : tvm.IRModule
        What the plan was made for.
    plan : MergePlan
    groups : sequence of sequence of str
        Names of merges (with `*`) that shall be retrained together.

    Raises
    ------
    UserError
        A group's name stands for no such merge.
    """
    order = {var.name: place for place, var in enumerate(Graph(module).layers)}
    merges = [each for each in plan.merges if not each.exact]
    merges.sort(key=lambda each: max(order.get(name, -1) for name in each.layers))
    rows = _joined([[each] for each in merges], _share_layers)
    for group in groups:
        _check_group(group, merges)
        rows = _joined(
            rows, lambda left, right, group=group: _has_any(left, group) and _has_any(right, group)
        )
    steps = [Step(_name(row), MergePlan(candidates=tuple(row))) for row in rows]
    if plan.decompositions:
        steps.append(Step(TUCKER, MergePlan(candidates=plan.decompositions)))
    return tuple(steps)


def _joined(
    rows: Iterable[list[Candidate]], belong: Callable[[list[Candidate], list[Candidate]], bool]
) -> list[list[Candidate]]:
    """The rows with all that belong together put into the first of them."""
    joined: list[list[Candidate]] = []
    for row in rows:
        homes = [earlier for earlier in joined if belong(earlier, row)]
        rest = [earlier for earlier in joined if not belong(earlier, row)]
        place = joined.index(homes[0]) if homes else len(joined)
        together = [each for part in (*homes, row) for each in part]
        joined = [*rest[:place], together, *rest[place:]]
    return joined


def _share_layers(left: list[Candidate], right: list[Candidate]) -> bool:
    return not {name for each in left for name in each.layers}.isdisjoint(
        name for each in right for name in each.layers
    )


def _has_any(row: list[Candidate], group: Sequence[str]) -> bool:
    return any(fnmatchcase(each.name, pattern) for each in row for pattern in group)


def _check_group(group: Sequence[str], merges: Sequence[Candidate]) -> None:
    for pattern in group:
        if not any(fnmatchcase(each.name, pattern) for each in merges):
            names = ", ".join(each.name for each in merges) or "none"
            raise UserError(
                f"--group: no merge that needs retraining is called {pattern!r}; there are {names}"
            )


def _name(row: list[Candidate]) -> str:
    """The names of its merges; a pool behind a block goes by the block's name."""
    names: list[str] = []
    seen: set[str] = set()
    for each in row:
        if seen.isdisjoint(each.layers):
            names.append(each.name)
        seen.update(each.layers)
    return " + ".join(names)
