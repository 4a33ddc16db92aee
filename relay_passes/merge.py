"""What the merging passes share: findings, and the sweeps that make them.

A pass looks at a graph and finds merges. Those that touch no common layer are made in one sweep over the
network; then it looks again, until nothing is left to merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import tvm
from tvm import relax

from relay_passes.graph import Graph, Rewrite, Rewritten
from relay_passes.layer_table import Cost, layers_of, total
from relay_passes.merge_plan import Candidate, Kind, MergePlan, Reason, Refusal

REBORN = "deeprebirth.reborn"


@dataclass(frozen=True)
class Merge:
    """One merge that was found in a graph.

    `layers` are those that a reader of the plan wants to hear of; the last is where it was found. `touches`
    are all that it reads, replaces or makes anew, the block's input aside. `reborn` names the layers whose
    weights must be trained; a merge without any is exact. `ranks` are those of a Tucker decomposition.
    """

    name: str
    kind: Kind
    layers: tuple[str, ...]
    removed: tuple[str, ...]
    touches: frozenset[relax.Var]
    replacements: Mapping[relax.Var, Rewrite]
    reborn: tuple[str, ...] = ()
    ranks: tuple[int, int] | None = None

    @property
    def exact(self) -> bool:
        """Whether the outputs stay what they are."""
        return not self.reborn

    @property
    def found_at(self) -> str:
        """The layer where it was found; no other merge of its kind has the same."""
        return self.layers[-1]

    def candidate(self) -> Candidate:
        """The merge as an entry of a plan, without its savings."""
        return Candidate(
            name=self.name,
            kind=self.kind,
            exact=self.exact,
            layers=self.layers,
            removed=self.removed,
            ranks=self.ranks,
        )


@dataclass(frozen=True)
class Findings:
    """What a pass can merge in a graph, and what it refuses."""

    merges: tuple[Merge, ...]
    refusals: tuple[Refusal, ...]

    @classmethod
    def sorted_out(cls, found: Iterable[Merge | Refusal]) -> Findings:
        """Merges and refusals apart."""
        found = tuple(found)
        return cls(
            tuple(merge for merge in found if isinstance(merge, Merge)),
            tuple(refused for refused in found if isinstance(refused, Refusal)),
        )


@dataclass(frozen=True)
class Sweep:
    """Merges made together in a graph, what came of it, and how each changed the network's cost.

    All of them are exact, or none is.
    """

    graph: Graph
    rewritten: Rewritten
    merges: tuple[Merge, ...]
    changes: tuple[Cost, ...]

    @property
    def module(self) -> tvm.IRModule:
        """The module that came of it."""
        return self.rewritten.module


Find = Callable[[Graph], Findings]
Refused = tuple[Reason, str]


def refusal(name: str, kind: Kind, layers: tuple[str, ...], refused: Refused) -> Refusal:
    """What is refused, as an entry of a plan; the last layer is where the merge would have been."""
    reason, detail = refused
    return Refusal(name=name, kind=kind, layers=layers, reason=reason, detail=detail)


def make_planned(module: tvm.IRModule, find: Find, plan: MergePlan) -> tvm.IRModule:
    """Make the merges of a plan that `find` finds."""
    places = {candidate.place for candidate in plan.candidates}
    while sweep := next_sweep(module, find, lambda merge: (merge.kind, merge.found_at) in places):
        module = sweep.module
    return module


def next_sweep(
    module: tvm.IRModule, find: Find, wanted: Callable[[Merge], bool], *, one_alone: bool = False
) -> Sweep | None:
    """Make the wanted merges that `find` finds and that don't touch each other, or None if there are none.

    Exact ones come first. `one_alone` makes the first of them only.
    """
    graph = Graph(module)
    found = [merge for merge in find(graph).merges if wanted(merge)]
    merges = _apart(merge for merge in found if merge.exact) or _apart(found)
    if not merges:
        return None
    if one_alone:
        merges = merges[:1]
    replacements = {var: rewrite for merge in merges for var, rewrite in merge.replacements.items()}
    rewritten = graph.trace_rewrite(replacements)
    rewritten = replace(rewritten, module=_with_reborn(rewritten.module, merges))
    changes = tuple(_change(graph, rewritten, merge) for merge in merges)
    return Sweep(graph, rewritten, merges, changes)


def reborn_layers(module: tvm.IRModule) -> list[str]:
    """Names of the layers whose weights were made by a merge and not trained yet."""
    attributes = module.attrs
    return [str(name) for name in attributes[REBORN]] if attributes and REBORN in attributes else []


def _apart(merges: Iterable[Merge]) -> tuple[Merge, ...]:
    """The first of the merges and every later one that touches nothing of those taken."""
    taken: set[relax.Var] = set()
    chosen = []
    for merge in merges:
        if taken.isdisjoint(merge.touches):
            taken |= merge.touches
            chosen.append(merge)
    return tuple(chosen)


def _change(graph: Graph, rewritten: Rewritten, merge: Merge) -> Cost:
    made = (rewritten.made[var] for var in merge.replacements)
    gone = {var: graph.value[var] for var in merge.touches & rewritten.gone}
    after = (total(layers_of(graph, layers)) for layers in made)
    return sum(after, start=Cost()) - total(layers_of(graph, gone))


def _with_reborn(module: tvm.IRModule, merges: tuple[Merge, ...]) -> tvm.IRModule:
    """Add what the merges made to the list of reborn layers, and take out what they absorbed."""
    names = [*reborn_layers(module), *(name for merge in merges for name in merge.reborn)]
    present = {var.name for var in Graph(module).layers}
    return module.with_attr(REBORN, [name for name in dict.fromkeys(names) if name in present])
