"""What the user wants merged in a network, and making it, each merge checked as it is made."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tvm

from pipeline.errors import UserError
from pipeline.network import Network
from pipeline.twin import evaluate
from relay_passes import (
    Choice,
    Fixed,
    Merged,
    MergePlan,
    Planned,
    RankChoice,
    Selection,
    WrongRanks,
    all_of,
    exact_only,
    make_merges,
)


@dataclass(frozen=True)
class MergeRequest:
    """Which merges the user wants.

    Parameters
    ----------
    retraining : bool
        Also those that need retraining.
    only, skip : tuple of str
        Names or kinds of merges, as in `relay_passes.Selection`.
    plan : MergePlan, optional
        The merges of this plan and no others; all of them have to be found.
    ranks : RankChoice, optional
        Decompose the convolutions after merging (Tucker-2), which needs retraining too. By default a plan's
        decompositions have the plan's ranks.
    """

    retraining: bool = False
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    plan: MergePlan | None = None
    ranks: RankChoice | None = None

    @property
    def decomposition(self) -> RankChoice | None:
        """How to choose the ranks, if convolutions shall be decomposed."""
        if self.ranks is None and self.plan is not None and self.plan.ranks:
            return Fixed(self.plan.ranks)
        return self.ranks

    @property
    def selection(self) -> Selection:
        """The merges by name or kind."""
        return Selection(self.only, self.skip)

    def choice(self) -> Choice:
        """All of it as one choice."""
        choices: list[Choice] = [self.selection]
        choices += [] if self.plan is None else [Planned(self.plan)]
        choices += [] if self.retraining else [exact_only]
        return all_of(choices)


EXACT_MERGES = MergeRequest()


def merge_network(network: Network, request: MergeRequest) -> Merged:
    """Make the merges that are wanted.

    Exact ones are compared with what they replace on the golden inputs; one that differs is undone, and the
    plan says so.

    Raises
    ------
    UserError
        A name stands for no merge, a merge of the plan given is not found, or its ranks exceed the channels.
    """
    inputs = list(network.golden.inputs.values())

    def compute(module: tvm.IRModule, at: Sequence[str]) -> list[np.ndarray]:
        return evaluate(module, inputs, at)

    try:
        merged = make_merges(
            network.module, choice=request.choice(), ranks=request.decomposition, evaluate=compute
        )
    except WrongRanks as error:
        raise UserError(str(error)) from None
    _check_names(request.selection, merged.plan)
    if request.plan is not None:
        _check_planned(request, merged.plan)
    return merged


def _check_names(selection: Selection, found: MergePlan) -> None:
    unknown = selection.without_meaning(found)
    if not unknown:
        return
    names = dict.fromkeys(entry.name for entry in (*found.candidates, *found.refusals))
    alike = difflib.get_close_matches(unknown[0], names, n=3, cutoff=0.4) or list(names)[:3]
    hint = f"; there are {', '.join(alike)}" if alike else ""
    raise UserError(f"no merge is called {unknown[0]!r}{hint}: `deeprebirth inspect` lists all")


def _check_planned(request: MergeRequest, found: MergePlan) -> None:
    made = {candidate.place for candidate in found.candidates}
    refused = {refusal.place: refusal for refusal in found.refusals}
    for candidate in request.plan.candidates:
        left_out = request.choice()(candidate)
        if candidate.place in made or left_out:
            continue
        why = refused.get(candidate.place)
        reason = f"{why.reason}: {why.detail}" if why else "the network has no such layers to merge"
        raise UserError(f"the plan's merge {candidate.name!r} ({candidate.kind}) cannot be made: {reason}")
