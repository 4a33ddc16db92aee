"""Find all merges of a network, and make those of a plan.

The steps stand in the order in which they are made: folding leaves plain convolutions, streamline merges
shorten the chains, branch merges widen convolutions, and then a pool behind a concat finds convolutions only.
"""

from __future__ import annotations

import tvm

from relay_passes.fold_batch_norm import FoldBatchNorm, find_folds
from relay_passes.graph import Graph
from relay_passes.layer_table import Cost, cost
from relay_passes.merge import Find, Merge, apply_merges
from relay_passes.merge_branches import MergeBranches, find_branches
from relay_passes.merge_concat_pool import MergeConcatPool, find_concat_pools
from relay_passes.merge_plan import Candidate, Kind, MergePlan, Reason, Refusal
from relay_passes.merge_streamline import MergeStreamline, find_streamlines

STEPS: tuple[Find, ...] = (find_folds, find_streamlines, find_branches, find_concat_pools)


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
    for find in STEPS:
        module, made, refused = _take_all(module, find)
        candidates += made
        refusals += refused
    left_over = [refusal for find in STEPS for refusal in find(Graph(module)).refusals]
    settled = {entry.name for entry in (*candidates, *refusals)}
    refusals += [refusal for refusal in left_over if refusal.name not in settled]
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
    passes = (FoldBatchNorm(plan), MergeStreamline(plan), MergeBranches(plan), MergeConcatPool(plan))
    return tvm.transform.Sequential(passes)(module)


def _take_all(module: tvm.IRModule, find: Find) -> tuple[tvm.IRModule, list[Candidate], list[Refusal]]:
    """Make every merge of one kind, one after the other, unless it saves nothing."""
    candidates: list[Candidate] = []
    refusals: dict[str, Refusal] = {}
    before = cost(module)
    while True:
        graph = Graph(module)
        merge = next((merge for merge in find(graph).merges if merge.name not in refusals), None)
        if merge is None:
            return module, candidates, list(refusals.values())
        merged = apply_merges(graph, [merge])
        after = cost(merged)
        if merge.kind is Kind.BRANCH and after.macs >= before.macs:
            refusals[merge.name] = _saves_nothing(merge, before, after)
            continue
        candidates.append(_with_savings(merge.candidate(), before, after))
        module, before = merged, after


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


def _saves_nothing(merge: Merge, before: Cost, after: Cost) -> Refusal:
    return Refusal(
        name=merge.name,
        kind=merge.kind,
        layers=merge.layers,
        reason=Reason.SAVES_NOTHING,
        detail=f"the network would take {after.macs - before.macs:+,} multiply-adds",
    )
