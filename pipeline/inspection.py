"""The layer table and the merge plan of a network, without building anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.importer import load_network
from relay_passes import Cost, Layer, MergePlan, apply_plan, cost, layer_table, plan_merges


class Inspection(BaseModel):
    """What a network consists of and what can be merged in it."""

    model_config = ConfigDict(frozen=True)

    name: str
    framework: str
    layers: tuple[Layer, ...]
    plan: MergePlan
    original: Cost
    merged: Cost


def inspect(
    model: str | os.PathLike[str] | Any,
    *,
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Inspection:
    """Import a model and plan its merges.

    Parameters
    ----------
    model, example_inputs, input_shapes
        As for `pipeline.load_network`.

    Returns
    -------
    Inspection
        `merged` is what the network would be with every merge of the plan.

    Raises
    ------
    UserError
        The model cannot be imported.
    """
    network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes)
    plan = plan_merges(network.module)
    return Inspection(
        name=network.name,
        framework=network.framework,
        layers=layer_table(network.module),
        plan=plan,
        original=cost(network.module),
        merged=cost(apply_plan(network.module, plan)),
    )
