"""Merge steps: from the bottom to the top, what belongs together in one, groups."""

import pytest

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging import MergeRequest, merge_network
from pipeline.retraining.steps import TUCKER, steps_of
from relay_passes import Candidate, Kind, MergePlan, Ratio


@pytest.fixture(scope="module")
def plan(files) -> MergePlan:
    request = MergeRequest(retraining=True, ranks=Ratio(0.5))
    return merge_network(load_network(files.inception), request).plan


def named(steps) -> list[tuple[str, tuple[str, ...]]]:
    return [(step.name, step.merges) for step in steps]


def candidate(name: str, *layers: str, exact: bool = False) -> Candidate:
    return Candidate(name=name, kind=Kind.STREAMLINE, exact=exact, layers=layers, removed=())


def test_from_the_bottom_to_the_top(original, plan):
    steps = steps_of(original, plan)
    assert named(steps)[:3] == [
        ("conv1", ("conv1",)),
        ("block_a", ("block_a", "pool2")),
        ("block_b", ("block_b",)),
    ]


def test_decompositions_come_last(original, plan):
    *others, last = steps_of(original, plan)
    assert last.name == TUCKER
    assert last.plan.decompositions == plan.decompositions
    assert not any(step.plan.decompositions for step in others)


def test_every_merge_is_in_one_step(original, plan):
    steps = steps_of(original, plan, [("block_*",)])
    places = [each.place for step in steps for each in step.plan.candidates]
    assert sorted(places) == sorted(each.place for each in plan.candidates if not each.exact)


@pytest.mark.parametrize("group", [("block_a", "block_b"), ("block_*",), ("pool2", "block_b")])
def test_a_group_is_one_step(original, plan, group):
    steps = steps_of(original, MergePlan(candidates=plan.merges), [group])
    assert [step.name for step in steps] == ["conv1", "block_a + block_b"]


def test_two_groups_that_overlap_are_one(original, plan):
    groups = [("conv1", "block_a"), ("block_a", "block_b")]
    assert len(steps_of(original, MergePlan(candidates=plan.merges), groups)) == 1


def test_a_group_that_stands_for_nothing(original, plan):
    with pytest.raises(UserError, match=r"no merge that needs retraining is called '4b'; there are conv1, "):
        steps_of(original, plan, [("conv1", "4b")])


def test_exact_merges_are_no_step(original):
    plan = MergePlan(candidates=(candidate("fold", "conv1", "conv1.bias", exact=True),))
    assert steps_of(original, plan) == ()
    with pytest.raises(UserError, match="there are none"):
        steps_of(original, plan, [("fold",)])


def test_a_merge_of_two_steps_joins_them(original):
    """Two branches merged each by itself, and a pool that needs both."""
    plan = MergePlan(
        candidates=(
            candidate("one", "conv1", "relu1"),
            candidate("other", "norm1"),
            candidate("between", "block_b.conv1x1"),
            candidate("both", "relu1", "norm1", "pool1"),
        )
    )
    assert named(steps_of(original, plan)) == [
        ("one + other", ("one", "other", "both")),
        ("between", ("between",)),
    ]
