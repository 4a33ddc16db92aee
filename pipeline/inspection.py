"""The layer table and the merge plan of a network, without building anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging import MergeRequest, Profile, merge_network
from relay_passes import (
    ESTIMATED,
    Cost,
    Layer,
    MergePlan,
    apply_plan,
    cost,
    estimated_times,
    layer_table,
    with_time_shares,
)

EVERY_MERGE = MergeRequest(retraining=True)


class Inspection(BaseModel):
    """What a network consists of and what can be merged in it.

    `merged` is what it would be with every merge of the plan, `decomposed` with the plan's Tucker
    decompositions too, if there are any.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    framework: str
    layers: tuple[Layer, ...]
    plan: MergePlan
    original: Cost
    merged: Cost
    decomposed: Cost | None


def inspect(
    model: str | os.PathLike[str] | Any,
    *,
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    request: MergeRequest = EVERY_MERGE,
    profile: Profile | None = None,
) -> Inspection:
    """Import a model and plan its merges.

    Parameters
    ----------
    model, example_inputs, input_shapes
        As for `pipeline.load_network`.
    request : MergeRequest
        Which merges are wanted; by default all.
    profile : Profile, optional
        What each layer takes. Without it, shares of time are estimated, and the plan says so.

    Returns
    -------
    Inspection

    Raises
    ------
    UserError
        The model cannot be imported, the request or the profile does not fit it.
    """
    network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes)
    layers = layer_table(network.module)
    merged = merge_network(network, request)
    whole, decompositions = cost(merged.module), merged.plan.decompositions
    merges_only = merged.plan.model_copy(update={"candidates": merged.plan.merges})
    times, source = _times(layers, profile) if profile else (estimated_times(network.module), ESTIMATED)
    return Inspection(
        name=network.name,
        framework=network.framework,
        layers=layers,
        plan=with_time_shares(merged.plan, times, source),
        original=cost(network.module),
        merged=cost(apply_plan(network.module, merges_only)) if decompositions else whole,
        decomposed=whole if decompositions else None,
    )


def _times(layers: tuple[Layer, ...], profile: Profile) -> tuple[Mapping[str, float], str]:
    names = {layer.name for layer in layers}
    times = {name: time for name, time in profile.milliseconds.items() if name in names}
    if not sum(times.values()):
        unknown = next(iter(profile.milliseconds))
        raise UserError(
            f"the profile is of another network: it has {unknown!r}, and none of this one's layers"
        )
    return times, profile.measured_on
