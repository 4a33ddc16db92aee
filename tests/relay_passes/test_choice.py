"""Which merges are wanted."""

import pytest
import torch
from torch import nn

from relay_passes import (
    Kind,
    Planned,
    Reason,
    Selection,
    all_of,
    apply_plan,
    cost,
    exact_only,
    make_merges,
    plan_merges,
)


@pytest.fixture
def module(from_torch, randomised):
    def stage(inputs):
        return nn.Sequential(
            nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )

    return from_torch(randomised(nn.Sequential(stage(3), stage(4))), torch.randn(1, 3, 16, 16)).module


def names(plan):
    return [(candidate.kind, candidate.name) for candidate in plan.candidates]


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), {"0.1", "0.1.shift", "1.1", "1.1.shift", "0.0", "1.0"}),
        (Selection(only=("fold",)), {"0.1", "0.1.shift", "1.1", "1.1.shift"}),
        (Selection(only=("fold", "1.*")), {"0.1", "0.1.shift", "1.1", "1.1.shift", "1.0"}),
        (Selection(skip=("streamline", "0.*")), {"1.1", "1.1.shift"}),
        (Selection(only=("fold",), skip=("0.1.shift",)), {"0.1", "1.1", "1.1.shift"}),
    ],
)
def test_by_name_or_kind(module, selection, wanted):
    plan = plan_merges(module, choice=selection)
    assert {candidate.name for candidate in plan.candidates} == wanted
    assert cost(apply_plan(module, plan)).macs == plan.candidates[-1].macs_after


def test_what_is_left_out_is_refused_with_the_reason(module):
    plan = plan_merges(module, choice=Selection(skip=("1.0",)))
    (refusal,) = [each for each in plan.refusals if each.name == "1.0"]
    assert refusal.reason is Reason.LEFT_OUT
    plan = plan_merges(module, choice=exact_only)
    assert {each.reason for each in plan.refusals} == {Reason.NEEDS_RETRAINING}
    assert {candidate.kind for candidate in plan.candidates} == {Kind.FOLD}


def test_patterns_that_stand_for_nothing(module):
    selection = Selection(only=("fold", "branch", "0.0"), skip=("conv*", "1.1"))
    plan = plan_merges(module, choice=selection)
    assert selection.without_meaning(plan) == ("conv*",)


def test_a_plan_given_back(module):
    plan = plan_merges(module)
    assert names(plan_merges(module, choice=Planned(plan))) == names(plan)
    fewer = plan.model_copy(update={"candidates": plan.candidates[:3]})
    again = plan_merges(module, choice=Planned(fewer))
    assert names(again) == names(fewer)
    assert Reason.LEFT_OUT in {refusal.reason for refusal in again.refusals}


def test_all_of_several_choices(module):
    plan = plan_merges(module, choice=all_of([exact_only, Selection(skip=("0.*",))]))
    assert [candidate.name for candidate in plan.candidates] == ["1.1", "1.1.shift"]
    assert plan_merges(module, choice=all_of([])) == plan_merges(module)


def test_making_and_applying_agree(module):
    merged = make_merges(module, choice=Selection(skip=("0.0",)))
    assert cost(merged.module) == cost(apply_plan(module, merged.plan))
