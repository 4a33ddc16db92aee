"""What the merging passes share: findings, and the loop that applies them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tvm
from tvm import relax

from relay_passes.graph import Graph, Rewrite
from relay_passes.merge_plan import Candidate, Kind, Refusal

REBORN = "deeprebirth.reborn"


@dataclass(frozen=True)
class Merge:
    """One merge that was found in a graph.

    `touches` are the layers that it reads or replaces: merges that touch the same layer are made one after
    the other. `reborn` names the layers whose weights must be trained.
    """

    name: str
    kind: Kind
    layers: tuple[str, ...]
    removed: tuple[str, ...]
    touches: frozenset[relax.Var]
    replacements: Mapping[relax.Var, Rewrite]
    reborn: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the outputs of the network stay the same."""
        return not self.reborn

    def candidate(self) -> Candidate:
        """The merge as an entry of a plan, without its savings."""
        return Candidate(
            name=self.name, kind=self.kind, exact=self.exact, layers=self.layers, removed=self.removed
        )


@dataclass(frozen=True)
class Findings:
    """What a pass can merge in a graph, and what it refuses."""

    merges: tuple[Merge, ...]
    refusals: tuple[Refusal, ...]


Find = Callable[[Graph], Findings]


def apply_merges(graph: Graph, merges: list[Merge]) -> tvm.IRModule:
    """Make merges that don't touch each other."""
    replacements = {var: rewrite for merge in merges for var, rewrite in merge.replacements.items()}
    reborn = reborn_layers(graph.module)
    reborn += [name for merge in merges for name in merge.reborn if name not in reborn]
    return graph.rewrite(replacements, attributes={REBORN: reborn})


def merge_by_name(module: tvm.IRModule, find: Find, names: frozenset[str]) -> tvm.IRModule:
    """Make the merges that `find` finds under one of `names`, until none is left."""
    while True:
        graph = Graph(module)
        chosen = apart([merge for merge in find(graph).merges if merge.name in names])
        if not chosen:
            return module
        module = apply_merges(graph, chosen)


def apart(merges: list[Merge]) -> list[Merge]:
    """The first of the merges and every later one that touches nothing of those taken."""
    taken: set[relax.Var] = set()
    chosen = []
    for merge in merges:
        if taken.isdisjoint(merge.touches):
            taken |= merge.touches
            chosen.append(merge)
    return chosen


def reborn_layers(module: tvm.IRModule) -> list[str]:
    """Names of the layers whose weights were made by a merge and not trained yet."""
    attributes = module.attrs
    return [str(name) for name in attributes[REBORN]] if attributes and REBORN in attributes else []
