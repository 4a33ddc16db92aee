"""The weights that the new layers of a step start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import tvm
from torch import nn

from pipeline.data import Batch
from pipeline.retraining.fit import fit
from pipeline.retraining.fit_target import FitTarget, fit_target
from pipeline.retraining.objective import distillation_loss
from pipeline.retraining.traced import Traced
from pipeline.retraining.training import Lesson
from relay_passes import reborn_layers
from relay_passes.convolution import ChannelLayer
from relay_passes.graph import Graph


def new_parameters(module: tvm.IRModule, student: Traced) -> dict[str, str]:
    """The parameters of the reborn layers and of their biases, each with its role: `weight` or `bias`."""
    graph = Graph(module)
    reborn = set(reborn_layers(module))
    found = {}
    for var in (var for var in graph.layers if var.name in reborn):
        found |= {name: "weight" for name in student.twin.layers.get(var.name, ())}
        behind = ChannelLayer.at(graph, graph.users[var][0]) if graph.has_one_user(var) else None
        if behind is not None and behind.operator == "add":
            found |= {name: "bias" for name in student.twin.layers[behind.name]}
    return found


def draw_at_random(student: Traced, new: dict[str, str], seed: int) -> None:
    """Xavier's weights and no biases (Glorot and Bengio, 2010)."""
    generator = torch.Generator().manual_seed(seed)
    for name, role in new.items():
        parameter = student.twin.get_parameter(name)
        if role == "weight":
            nn.init.xavier_uniform_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)


def fit_to_original(student: Traced, lesson: Lesson, batches: Sequence[Batch], seed: int) -> None:
    """Fit the new layers to what the original computes, from the bottom to the top.

    The weights that the merge gave are put back if the student's outputs are closer to the original's with
    them: a convolution in place of a max pool may follow it closely and yet even out what made it useful.

    Parameters
    ----------
    student : Traced
        Its weights are changed in place.
    lesson : Lesson
    batches : sequence of Batch
        For calibration.
    seed : int
    """
    targets = _targets(student.module, {each.student for each in lesson.features})
    with torch.no_grad():
        wanted = [lesson.original(*batch.inputs) for batch in batches]
        values = [{each.student: found.layers[each.original] for each in lesson.features} for found in wanted]
        before = {name: value.clone() for name, value in student.twin.state_dict().items()}

        def loss() -> float:
            pairs = ((student(*batch.inputs), aim) for batch, aim in zip(batches, wanted, strict=True))
            return sum(float(distillation_loss(ours, aim, lesson.kinds)) for ours, aim in pairs)

        loss_before = loss()
        for target in targets:
            source = target.convolution.source.name
            inputs = [student.value(batch.inputs, source) for batch in batches]
            fit(target, student.twin, inputs, values, seed)
        if not loss() < loss_before:
            student.twin.load_state_dict(before)


def _targets(module: tvm.IRModule, ends: set[str]) -> list[FitTarget]:
    graph, reborn = Graph(module), set(reborn_layers(module))
    found = (fit_target(graph, var.name, ends) for var in graph.layers if var.name in reborn)
    return [target for target in found if target is not None]
