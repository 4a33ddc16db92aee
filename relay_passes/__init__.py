"""Relax passes that merge, and the plan that says what they merge.

Every pass takes and returns a canonical `tvm.IRModule` (docs/architecture.md).
"""

from relay_passes.canonicalize import canonicalize
from relay_passes.choice import Choice, Planned, Selection, all_of, everything, exact_only
from relay_passes.inline_composites import inline_composites
from relay_passes.layer_table import Cost, Layer, cost, layer_table
from relay_passes.merge import REBORN, reborn_layers
from relay_passes.merge_plan import Candidate, Kind, MergePlan, Reason, Refusal
from relay_passes.plan_merges import Merged, apply_plan, make_merges, plan_merges
from relay_passes.ranks import Energy, Fixed, RankChoice, Ratio, Vbmf, WrongRanks
from relay_passes.strip_softmax import squashing, strip_softmax
from relay_passes.time_share import ESTIMATED, estimated_times, with_time_shares

__all__ = [
    "ESTIMATED",
    "REBORN",
    "Candidate",
    "Choice",
    "Cost",
    "Energy",
    "Fixed",
    "Kind",
    "Layer",
    "MergePlan",
    "Merged",
    "Planned",
    "RankChoice",
    "Ratio",
    "Reason",
    "Refusal",
    "Selection",
    "Vbmf",
    "WrongRanks",
    "all_of",
    "apply_plan",
    "canonicalize",
    "cost",
    "estimated_times",
    "everything",
    "exact_only",
    "inline_composites",
    "layer_table",
    "make_merges",
    "plan_merges",
    "reborn_layers",
    "squashing",
    "strip_softmax",
    "with_time_shares",
]
