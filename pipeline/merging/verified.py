"""A merged network, and what it has to compute from now on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm

from pipeline.merging.request import MergeRequest, merge_network
from pipeline.network import Golden, Network
from pipeline.report.model import Verification
from pipeline.twin import evaluate
from pipeline.verification import verify, worst
from relay_passes import MergePlan, Planned, all_of, exact_only, make_merges, strip_softmax

EXACT = "network with its exact merges"


@dataclass(frozen=True)
class MergedNetwork:
    """A network with its merges made.

    Parameters
    ----------
    module : tvm.IRModule
    plan : MergePlan
        The merges that were made and refused.
    reference : dict of str to numpy.ndarray
        What it has to compute for the golden inputs, by the outputs' names.
    against : str
        Where the reference comes from, in words.
    check : Verification
        The exact merges against the original, before a final softmax or sigmoid too: the comparison that came
        closest to its tolerance.
    """

    module: tvm.IRModule
    plan: MergePlan
    reference: dict[str, np.ndarray]
    against: str
    check: Verification


def merge_verified(network: Network, request: MergeRequest) -> MergedNetwork:
    """Make the merges that are wanted, and compare what the exact ones compute with the original.

    Raises
    ------
    UserError
        As `merge_network`.
    NotVerified
        The network with its exact merges differs from the original.
    """
    merged = merge_network(network, request)
    reference, against = network.golden.outputs, original_in(network)
    if merged.plan.is_exact:
        check = verify_module(merged.module, network.golden, EXACT, against)
        return MergedNetwork(merged.module, merged.plan, reference, against, check)
    exact = make_merges(network.module, choice=all_of([Planned(merged.plan), exact_only])).module
    check = verify_module(exact, network.golden, EXACT, against)
    outputs = evaluate(merged.module, list(network.golden.inputs.values()))
    own = dict(zip(reference, outputs, strict=True))
    return MergedNetwork(merged.module, merged.plan, own, "the merged network in torch", check)


def verify_module(module: tvm.IRModule, golden: Golden, what: str, against: str) -> Verification:
    """Compare what a module computes in torch with golden values, before a final softmax or sigmoid too.

    Raises
    ------
    NotVerified
        They differ.
    """
    inputs = list(golden.inputs.values())
    check = verify(what, against, golden.outputs, evaluate(module, inputs))
    if not golden.has_softmax:
        return check
    before = evaluate(strip_softmax(module), inputs)
    return worst((check, verify(f"{what}, before its softmax or sigmoid", against, golden.logits, before)))


def original_in(network: Network) -> str:
    """Where a network's golden outputs come from, in words."""
    return f"the original in {network.framework}"
