"""The student between steps: what stands for what, and where it shall be what the original is."""

from __future__ import annotations

import pytest
import torch
import tvm
from torch import nn

from pipeline.importer import load_network
from pipeline.retraining.steps import TUCKER, Step, steps_of
from pipeline.retraining.student import Feature, Student
from pipeline.twin import Twin
from relay_passes import Fixed, MergePlan, Ratio, make_merges, plan_merges, reborn_layers
from relay_passes.graph import Graph, shape_of

RANKS = Ratio(0.5)


def shapes(module: tvm.IRModule) -> dict[str, tuple[int, ...]]:
    return {var.name: shape_of(var) for var in Graph(module).layers if hasattr(var.ty, "shape")}


@pytest.fixture(scope="module")
def steps(original) -> dict[str, Step]:
    return {step.name: step for step in steps_of(original, plan_merges(original, ranks=RANKS))}


def taken(original: tvm.IRModule, *steps: Step) -> tuple[Student, list[list[Feature]]]:
    student, features = Student.of(original), []
    for step in steps:
        student, _, found = student.merged(step.plan, RANKS if step.name == TUCKER else None)
        features.append(found)
    return student, features


def check(student: Student) -> None:
    """What holds after any steps."""
    ours, wanted = shapes(student.module), shapes(student.original)
    for name, original in student.stands_for.items():
        assert ours[name] == wanted[original]
    for feature in student.features:
        assert ours[feature.student] == wanted[feature.original]
        assert student.counterpart(feature.student) == feature.original
    for name in ours:
        original = student.counterpart(name)
        assert original is None or ours[name] == wanted[original]


def test_before_the_first_step(original):
    student = Student.of(original)
    assert student.module is original
    assert student.features == ()
    assert student.counterpart("relu1") == "relu1"
    assert student.counterpart("nowhere") is None


def test_a_streamline(original, steps):
    student, (features,) = taken(original, steps["conv1"])
    assert features == [Feature("relu1", "pool1")]
    assert student.stands_for == {"relu1": "pool1"}
    assert student.counterpart("conv1") is None
    assert student.counterpart("block_a.cat") == "block_a.cat"
    check(student)


def test_a_block_with_the_pool_behind_it(original, steps):
    student, features = taken(original, steps["conv1"], steps["block_a"])
    assert features[1] == [Feature("block_a.cat", "pool2")]
    assert student.stands_for == {"relu1": "pool1", "block_a.cat": "pool2"}
    assert student.counterpart("block_a.relu_4") is None
    check(student)


def test_a_block(original, steps):
    student, features = taken(original, steps["conv1"], steps["block_a"], steps["block_b"])
    assert features[2] == [Feature("block_b.cat", "block_b.cat")]
    assert len(student.features) == 3
    check(student)


def test_decompositions_last(original, steps):
    """Of a reborn layer, which stands for nothing: the block's output is what it is held to."""
    student, features = taken(original, *steps.values())
    assert steps[TUCKER].merges == ("block_a.conv3x3", "block_b.conv3x3")
    assert features[3] == [Feature("block_a.cat", "pool2"), Feature("block_b.cat", "block_b.cat")]
    assert student.counterpart("block_a.conv3x3.out") is None
    check(student)


def test_decompositions_alone():
    """Of a convolution of the original: its own value is what the last part is held to."""
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    original = load_network(network.eval(), example_inputs=torch.rand(1, 8, 12, 12)).module
    plan = plan_merges(original, ranks=RANKS)
    student, made, features = Student.of(original).merged(plan, RANKS)
    assert len(made.decompositions) == 2
    wanted = {Feature(f"{each.found_at}.out", each.found_at) for each in made.candidates}
    assert set(features) == wanted
    check(student)


def test_a_step_that_was_undone(original, steps):
    """The next steps are made in the network without it."""
    student, features = taken(original, steps["block_a"], steps["block_b"])
    assert [len(each) for each in features] == [1, 1]
    assert student.counterpart("relu1") == "relu1"
    assert student.counterpart("pool1") == "pool1"
    assert "norm1" in shapes(student.module)
    check(student)


def test_in_any_order_the_same_network(original, steps):
    forwards, _ = taken(original, steps["conv1"], steps["block_a"], steps["block_b"])
    backwards, _ = taken(original, steps["block_b"], steps["block_a"], steps["conv1"])
    at_once = make_merges(original).module
    wanted = sorted(tuple(each.shape) for each in Twin(at_once).parameters())
    for student in (forwards, backwards):
        assert sorted(tuple(each.shape) for each in Twin(student.module).parameters()) == wanted
        check(student)
    assert dict(forwards.stands_for) == dict(backwards.stands_for)


def test_made_again_from_what_was_made(original, steps):
    """As from a checkpoint, with the ranks that were chosen."""
    student = again = Student.of(original)
    for step in steps.values():
        student, made, _ = student.merged(step.plan, RANKS if step.name == TUCKER else None)
        again, _, _ = again.merged(made, Fixed(made.ranks) if made.ranks else None)
    assert shapes(again.module) == shapes(student.module)
    assert (again.stands_for, again.changed) == (student.stands_for, student.changed)


def test_what_cannot_be_made_is_left_out(original, steps):
    student, made, features = Student.of(original).merged(MergePlan(), None)
    assert made.candidates == ()
    assert features == []
    assert shapes(student.module) == shapes(original)


def test_with_other_weights(original, steps):
    student, _ = taken(original, steps["conv1"])
    written = Twin(student.module).write_back(student.module)
    other = student.with_module(written)
    assert other.module is written
    assert other.stands_for == student.stands_for
    assert reborn_layers(student.module) == ["conv1"]
