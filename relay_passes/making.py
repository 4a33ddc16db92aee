"""Make merges one after the other, check each, and keep the plan of what was made."""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import relax

from relay_passes.check_rewrite import Evaluate, find_fault
from relay_passes.choice import Choice, everything
from relay_passes.graph import Graph
from relay_passes.layer_table import Cost, cost
from relay_passes.merge import Find, Merge, Sweep, next_sweep, refusal
from relay_passes.merge_plan import Candidate, MergePlan, Place, Reason, Refusal


class Making:
    """Merges in the making.

    Parameters
    ----------
    choice : Choice
        Which of the merges found shall be made.
    evaluate : Evaluate, optional
        Computes modules on random input, so that exact merges are compared with what they replace. One that
        differs is undone and becomes a refusal.
    """

    def __init__(self, choice: Choice = everything, evaluate: Evaluate | None = None):
        self._choice = choice
        self._evaluate = evaluate
        self._made: dict[Place, Candidate] = {}
        self._refused: dict[Place, Refusal] = {}
        self.stands_for: dict[str, str] = {}
        """For each layer of the first module that is computed another way: the layer that stands for it."""
        self.anew: set[str] = set()
        """The layers that merges made, those that stand for another aside."""

    @property
    def plan(self) -> MergePlan:
        """What was made, and what was refused and not made later."""
        refusals = (refused for place, refused in self._refused.items() if place not in self._made)
        return MergePlan(candidates=tuple(self._made.values()), refusals=tuple(refusals))

    def make(self, module: tvm.IRModule, find: Find) -> tvm.IRModule:
        """Make all merges that `find` finds and that are wanted, save something, and pass their checks."""
        before = cost(module)
        refused: dict[str, Refusal] = {}
        one_alone = False

        def is_wanted(merge: Merge) -> bool:
            if merge.found_at not in refused and (left_out := self._choice(merge.candidate())):
                refused[merge.found_at] = refusal(merge.name, merge.kind, merge.layers, left_out)
            return merge.found_at not in refused

        while sweep := next_sweep(module, find, is_wanted, one_alone=one_alone):
            bad = list(_worthless(sweep))
            if not bad and (fault := find_fault(sweep, self._evaluate)):
                guilty, detail = fault
                if guilty is None and len(sweep.merges) > 1:
                    one_alone = True
                    continue
                bad = [_undone(guilty or sweep.merges[0], detail)]
            if bad:
                refused |= {each.found_at: each for each in bad}
                continue
            for merge, change in zip(sweep.merges, sweep.changes, strict=True):
                self._made[merge.candidate().place] = _with_savings(
                    merge.candidate(), before, before + change
                )
                before += change
            self._note(sweep)
            module = sweep.module
        self._refused |= {each.place: each for each in refused.values()}
        return module

    def _note(self, sweep: Sweep) -> None:
        """Keep which layers came, and which of them stand for layers that were there."""
        for var in (var for merge in sweep.merges for var in merge.replacements):
            made = {new.name for new in sweep.rewritten.made[var]}
            stands = sweep.rewritten.stands_for[var]
            earlier = [old for old, new in self.stands_for.items() if new == var.name]
            kept = {old: new for old, new in self.stands_for.items() if new not in {*made, var.name}}
            own = [] if earlier or var.name in self.anew else [var.name]
            again = [*own, *earlier] if isinstance(stands, relax.Var) else []
            self.stands_for = {**kept, **dict.fromkeys(again, stands.name)}
            self.anew |= made
        self.anew -= set(self.stands_for.values())

    def look(self, module: tvm.IRModule, find: Find) -> None:
        """Keep what `find` refuses."""
        for refused in find(Graph(module)).refusals:
            self._refused.setdefault(refused.place, refused)


def _worthless(sweep: Sweep) -> Iterator[Refusal]:
    for merge, change in zip(sweep.merges, sweep.changes, strict=True):
        if change.macs > 0:
            detail = f"the network would take {change.macs:+,} multiply-adds"
            yield refusal(merge.name, merge.kind, merge.layers, (Reason.SAVES_NOTHING, detail))


def _undone(merge: Merge, detail: str) -> Refusal:
    return refusal(merge.name, merge.kind, merge.layers, (Reason.CHECK_FAILED, detail))


def _with_savings(candidate: Candidate, before: Cost, after: Cost) -> Candidate:
    return candidate.model_copy(
        update={
            "macs_before": before.macs,
            "macs_after": after.macs,
            "parameters_before": before.parameters,
            "parameters_after": after.parameters,
            "activation_bytes_before": before.activation_bytes,
            "activation_bytes_after": after.activation_bytes,
        }
    )
