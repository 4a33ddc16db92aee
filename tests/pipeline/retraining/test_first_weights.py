"""What the new layers of a step start from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline.data import Batch
from pipeline.retraining.first_weights import draw_at_random, fit_to_original, new_parameters
from pipeline.retraining.objective import distillation_loss
from pipeline.retraining.recipes import RECIPES
from pipeline.retraining.steps import steps_of
from pipeline.retraining.student import Student
from pipeline.retraining.traced import Traced
from pipeline.retraining.training import Lesson
from relay_passes import plan_merges

KINDS = ("classes",)


@pytest.fixture(params=["conv1", "block_a", "block_b"])
def start(original, request) -> tuple[Student, Traced, Lesson]:
    """A step, its student in training, and what teaches it."""
    (step,) = (each for each in steps_of(original, plan_merges(original)) if each.name == request.param)
    student, _, features = Student.of(original).merged(step.plan, None)
    traced = Traced(student.module, [each.student for each in features])
    teacher = Traced(original, [each.original for each in features])
    return student, traced, Lesson(teacher, features, KINDS, None, RECIPES["fitted"])


@pytest.fixture
def batches(batch) -> list[Batch]:
    return [Batch((x,), None) for x in batch.inputs[0].split(4)]


def loss(traced: Traced, lesson: Lesson, batches: list[Batch]) -> float:
    with torch.no_grad():
        pairs = ((traced(*each.inputs), lesson.original(*each.inputs)) for each in batches)
        return sum(float(distillation_loss(ours, aim, KINDS)) for ours, aim in pairs)


def test_new_parameters_are_those_of_reborn_layers_and_their_biases(start):
    student, traced, _ = start
    new = new_parameters(student.module, traced)
    old = {tuple(each.shape) for each in Traced(student.original).twin.parameters()}
    assert set(new.values()) == {"weight", "bias"}
    for name, role in new.items():
        assert traced.twin.get_parameter(name).dim() == 4
        assert name.endswith(f":{role}") or f":{role}_" in name
    assert (
        any(tuple(traced.twin.get_parameter(name).shape) not in old for name in new) or "conv1:weight" in new
    )


def test_nothing_is_new_in_the_original(original):
    assert new_parameters(original, Traced(original)) == {}


def test_a_fit_brings_the_outputs_nearer_and_changes_new_layers_only(start, batches):
    student, traced, lesson = start
    new = new_parameters(student.module, traced)
    before = loss(traced, lesson, batches)
    old = {name: value.clone() for name, value in traced.twin.state_dict().items()}
    fit_to_original(traced, lesson, batches, seed=0)
    assert loss(traced, lesson, batches) <= before
    changed = {name for name, value in traced.twin.state_dict().items() if not torch.equal(value, old[name])}
    assert changed <= new.keys()


def test_a_fit_that_leads_away_is_taken_back(start, batches, monkeypatch):
    _, traced, lesson = start
    old = {name: value.clone() for name, value in traced.twin.state_dict().items()}

    def spoil(target, twin, *rest):
        with torch.no_grad():
            twin.get_parameter(twin.layers[target.convolution.name][0]).fill_(9.0)

    monkeypatch.setattr("pipeline.retraining.first_weights.fit", spoil)
    fit_to_original(traced, lesson, batches, seed=0)
    assert all(torch.equal(value, old[name]) for name, value in traced.twin.state_dict().items())


def test_a_fit_is_the_same_every_time(start, batches):
    student, one, lesson = start
    other = Traced(student.module, [each.student for each in lesson.features])
    for traced in (one, other):
        fit_to_original(traced, lesson, batches, seed=0)
    for left, right in zip(one.twin.parameters(), other.twin.parameters(), strict=True):
        assert torch.equal(left, right)


def test_weights_that_are_exact_stay(original, batches):
    """Features without merges: nothing is reborn, and nothing changes."""
    traced = Traced(original)
    lesson = replace(Lesson(Traced(original), (), KINDS, None, RECIPES["fitted"]))
    before = [each.clone() for each in traced.twin.parameters()]
    fit_to_original(traced, lesson, batches, seed=0)
    assert all(map(torch.equal, before, traced.twin.parameters()))


def test_drawn_at_random(start):
    """Xavier: evenly between +-sqrt(6 / (fan in + fan out)); biases are none."""
    student, traced, _ = start
    new = new_parameters(student.module, traced)
    old = {name: value.clone() for name, value in traced.twin.state_dict().items()}
    draw_at_random(traced, new, seed=1)
    for name, value in traced.twin.state_dict().items():
        if name not in new:
            assert torch.equal(value, old[name])
        elif new[name] == "bias":
            assert not value.any()
        else:
            taps = value[0, 0].numel()
            most = (6 / (taps * (value.shape[0] + value.shape[1]))) ** 0.5
            assert 0.8 * most < float(value.abs().max()) <= most
    again = Traced(student.module)
    draw_at_random(again, new, seed=1)
    other = Traced(student.module)
    draw_at_random(other, new, seed=2)
    weights = [name for name, role in new.items() if role == "weight"]
    for name in weights:
        assert torch.equal(again.twin.get_parameter(name), traced.twin.get_parameter(name))
        assert not torch.equal(other.twin.get_parameter(name), traced.twin.get_parameter(name))
