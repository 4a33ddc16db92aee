"""Relax passes that merge, and the plan that says what they merge.

Every pass takes and returns a canonical `tvm.IRModule` (docs/architecture.md).
"""

from relay_passes.canonicalize import canonicalize
from relay_passes.inline_composites import inline_composites
from relay_passes.layer_table import Cost, Layer, cost, layer_table
from relay_passes.merge import reborn_layers
from relay_passes.merge_plan import Candidate, Kind, MergePlan, Reason, Refusal
from relay_passes.plan_merges import apply_plan, plan_merges
from relay_passes.strip_softmax import strip_softmax

__all__ = [
    "Candidate",
    "Cost",
    "Kind",
    "Layer",
    "MergePlan",
    "Reason",
    "Refusal",
    "apply_plan",
    "canonicalize",
    "cost",
    "inline_composites",
    "layer_table",
    "plan_merges",
    "reborn_layers",
    "strip_softmax",
]
