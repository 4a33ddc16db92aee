"""The network that is merged step by step, and which of its layers stand for which of the original's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import tvm
from tvm import relax

from relay_passes import MergePlan, Planned, RankChoice, make_merges
from relay_passes.graph import Graph, shape_of


@dataclass(frozen=True)
class Feature:
    """A layer of the student that shall have the value of a layer of the original."""

    student: str
    original: str


@dataclass(frozen=True)
class Student:
    """A network between two merge steps.

    Attributes
    ----------
    module : tvm.IRModule
    original : tvm.IRModule
        What it shall compute, with exact merges only.
    stands_for : mapping of str to str
        Layers that stand for another of the original, by their names.
    changed : frozenset of str
        Layers that stand for none, though the original may have one of the same name.
    """

    module: tvm.IRModule
    original: tvm.IRModule
    stands_for: Mapping[str, str] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, original: tvm.IRModule) -> Student:
        """The student before the first step: the original itself."""
        return cls(original, original)

    def with_module(self, module: tvm.IRModule) -> Student:
        """The same layers with other weights."""
        return replace(self, module=module)

    def merged(self, plan: MergePlan, ranks: RankChoice | None) -> tuple[Student, MergePlan, list[Feature]]:
        """Make the merges of a step.

        Parameters
        ----------
        plan : MergePlan
            The merges to make; those that can't be made any more are left out.
        ranks : RankChoice, optional
            Decompose the convolutions that the plan names.

        Returns
        -------
        Student
            With the first weights that need no data.
        MergePlan
            What was made.
        list of Feature
            Where it shall be what the original is.
        """
        made = make_merges(self.module, choice=Planned(plan), ranks=ranks)
        found = {new: self.counterpart(old) for old, new in made.stands_for.items()}
        known = {new: old for new, old in found.items() if old is not None}
        carried = {new: old for new, old in self.stands_for.items() if new not in {*made.anew, *found}}
        changed = (self.changed | made.anew | set(found)) - known.keys()
        student = Student(made.module, self.original, {**carried, **known}, frozenset(changed))
        return student, made.plan, student._features(made.stands_for.values())

    @property
    def features(self) -> tuple[Feature, ...]:
        """All layers that stand for one of the original with the same shape."""
        shapes = {var.name: shape_of(var) for var in Graph(self.module).layers if var.name in self.stands_for}
        return tuple(
            Feature(name, original)
            for name, original in self.stands_for.items()
            if shapes.get(name) == self._shapes[original]
        )

    def counterpart(self, name: str) -> str | None:
        """The original's layer with the value that the student's layer shall have, or None."""
        if name in self.stands_for:
            return self.stands_for[name]
        return name if name not in self.changed and name in self._shapes else None

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the original's layers."""
        layers = Graph(self.original).layers
        return {var.name: shape_of(var) for var in layers if isinstance(var.ty, relax.TensorType)}

    def _features(self, names: Iterable[str]) -> list[Feature]:
        graph = Graph(self.module)
        by_name = {var.name: var for var in graph.layers}
        found = {}
        for name in names:
            for var in _downstream(graph, by_name[name]):
                original = self.counterpart(var.name)
                if original is not None and self._shapes[original] == shape_of(var):
                    found[var.name] = Feature(var.name, original)
                    break
        return list(found.values())


def _downstream(graph: Graph, var: relax.Var) -> Iterator[relax.Var]:
    """A layer and all behind it, in the network's order."""
    behind = {var}
    for layer in graph.layers:
        if layer in behind:
            yield layer
            behind.update(graph.users[layer])
