"""Find all merges of a network, and make those of a plan.

The steps stand in the order in which they are made: folding leaves plain convolutions, average pools that
merge exactly go before the chains that don't, streamline merges shorten the chains, branch merges widen
convolutions, and then a pool behind a concat finds convolutions only. Where all branches became one
convolution there is no concat left, and the pool behind it is a chain's. What is left may be decomposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import tvm

from relay_passes.check_rewrite import Evaluate
from relay_passes.choice import Choice, everything
from relay_passes.decompose_tucker import DecomposeTucker, TuckerFinder
from relay_passes.fold_batch_norm import FoldBatchNorm, find_folds
from relay_passes.making import Making
from relay_passes.merge import Find
from relay_passes.merge_average_pool import MergeAveragePool, find_average_pools
from relay_passes.merge_branches import MergeBranches, find_branches
from relay_passes.merge_concat_pool import MergeConcatPool, find_concat_pools
from relay_passes.merge_plan import MergePlan
from relay_passes.merge_streamline import MergeStreamline, find_streamlines
from relay_passes.ranks import Fixed, RankChoice

STEPS: tuple[tuple[Find, Callable[[MergePlan], tvm.transform.Pass]], ...] = (
    (find_folds, FoldBatchNorm),
    (find_average_pools, MergeAveragePool),
    (find_streamlines, MergeStreamline),
    (find_branches, MergeBranches),
    (find_concat_pools, MergeConcatPool),
    (find_streamlines, MergeStreamline),
)


@dataclass(frozen=True)
class Merged:
    """A network with its merges made, and the plan of those made and refused.

    `stands_for` has, for each layer of the network given that is computed another way now, the layer with its
    value; `anew` names the layers that were made beside those.
    """

    module: tvm.IRModule
    plan: MergePlan
    stands_for: Mapping[str, str] = field(default_factory=dict)
    anew: frozenset[str] = frozenset()


def make_merges(
    module: tvm.IRModule,
    *,
    choice: Choice = everything,
    ranks: RankChoice | None = None,
    evaluate: Evaluate | None = None,
) -> Merged:
    """Make all merges of a canonical module that are wanted and pass their checks.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical; it is not changed.
    choice : Choice
        Which of the merges found shall be made; by default all.
    ranks : RankChoice, optional
        Decompose the convolutions afterwards (Tucker-2), with ranks chosen this way.
    evaluate : Evaluate, optional
        Computes modules on random input, so that exact merges are compared with what they replace. One that
        differs is undone and becomes a refusal.

    Returns
    -------
    Merged
        The attribute `deeprebirth.reborn` of its module names the layers that need training.
    """
    making = Making(choice, evaluate)
    finds: list[Find] = [find for find, _ in STEPS]
    finds += [] if ranks is None else [TuckerFinder(ranks)]
    for find in finds:
        module = making.make(module, find)
    for find in dict.fromkeys(finds):
        making.look(module, find)
    return Merged(module, making.plan, making.stands_for, frozenset(making.anew))


def plan_merges(
    module: tvm.IRModule, *, choice: Choice = everything, ranks: RankChoice | None = None
) -> MergePlan:
    """What `make_merges` would make and refuse, with what each merge saves."""
    return make_merges(module, choice=choice, ranks=ranks).plan


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
    passes = [make(plan) for _, make in STEPS]
    ranks = plan.ranks
    passes += [DecomposeTucker(Fixed(ranks))] if ranks else []
    return tvm.transform.Sequential(passes)(module)
