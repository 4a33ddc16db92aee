"""Find all merges of a network, and make those of a plan.

The steps stand in the order in which they are made: folding leaves plain convolutions, streamline merges
shorten the chains, branch merges widen convolutions, and then a pool behind a concat finds convolutions only.
Where all branches became one convolution there is no concat left, and the pool behind it is a chain's.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm

from relay_passes.fold_batch_norm import FoldBatchNorm, find_folds
from relay_passes.graph import Graph
from relay_passes.layer_table import Cost, cost
from relay_passes.merge import Find, Merge, next_sweep, refusal
from relay_passes.merge_branches import MergeBranches, find_branches
from relay_passes.merge_concat_pool import MergeConcatPool, find_concat_pools
from relay_passes.merge_plan import Candidate, MergePlan, Reason, Refusal
from relay_passes.merge_streamline import MergeStreamline, find_streamlines

STEPS: tuple[tuple[Find, Callable[[MergePlan], tvm.transform.Pass]], ...] = (
    (find_folds, FoldBatchNorm),
    (find_streamlines, MergeStreamline),
    (find_branches, MergeBranches),
    (find_concat_pools, MergeConcatPool),
    (find_streamlines, MergeStreamline),
)


def plan_merges(module: tvm.IRModule) -> MergePlan:
    """Everything that can be merged in a canonical module, with what each merge saves.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical; it is not changed.

    Returns
    -------
    MergePlan
    """
    candidates: list[Candidate] = []
    refusals: list[Refusal] = []
    for find, _ in STEPS:
        module, made, refused = _take_all(module, find)
        candidates += made
        refusals += refused
    graph = Graph(module)
    settled = {(entry.kind, entry.found_at) for entry in (*candidates, *refusals)}
    for find in dict.fromkeys(find for find, _ in STEPS):
        left_over = find(graph).refusals
        refusals += [refusal for refusal in left_over if (refusal.kind, refusal.found_at) not in settled]
    return MergePlan(candidates=tuple(candidates), refusals=tuple(refusals))


def apply_plan(module: tvm.IRModule, plan: MergePlan) -> tvm.IRModule:
    """Make the merges of a plan, pass by pass.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical, as the plan was made from.
    plan : MergePlan

    Returns
    -------
    tvm.IRModule
        Its attribute `deeprebirth.reborn` names the layers that need training.
    """
    return tvm.transform.Sequential([make(plan) for _, make in STEPS])(module)


def _take_all(module: tvm.IRModule, find: Find) -> tuple[tvm.IRModule, list[Candidate], list[Refusal]]:
    """Make all merges that `find` finds, except those that save nothing."""
    candidates: list[Candidate] = []
    refusals: dict[str, Refusal] = {}
    before = cost(module)

    def is_wanted(merge: Merge) -> bool:
        return merge.found_at not in refusals

    while sweep := next_sweep(module, find, is_wanted):
        made = tuple(zip(sweep.merges, sweep.changes, strict=True))
        worthless = {
            merge.found_at: _saves_nothing(merge, change) for merge, change in made if change.macs > 0
        }
        if worthless:
            refusals |= worthless
            continue
        for merge, change in made:
            candidates.append(_with_savings(merge.candidate(), before, before + change))
            before += change
        module = sweep.module
    return module, candidates, list(refusals.values())


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


def _saves_nothing(merge: Merge, change: Cost) -> Refusal:
    detail = f"the network would take {change.macs:+,} multiply-adds"
    return refusal(merge.name, merge.kind, merge.layers, (Reason.SAVES_NOTHING, detail))
