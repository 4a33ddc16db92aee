"""After merging: which layer has the value of which of the network given, and which are new."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.importer import load_network
from pipeline.twin import evaluate
from relay_passes import Merged, Planned, Ratio, exact_only, make_merges, plan_merges
from relay_passes.graph import Graph, shape_of


class Inception(nn.Module):
    """Four branches that read the same."""

    def __init__(self, inputs: int):
        super().__init__()
        self.conv1x1 = nn.Conv2d(inputs, 3, 1)
        self.reduce3, self.conv3x3 = nn.Conv2d(inputs, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.reduce5, self.conv5x5 = nn.Conv2d(inputs, 2, 1), nn.Conv2d(2, 2, 5, padding=2)
        self.pool, self.proj = nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 3, 1)

    def forward(self, x):
        branches = (
            self.conv1x1(x),
            self.conv3x3(self.reduce3(x).relu()),
            self.conv5x5(self.reduce5(x).relu()),
            self.proj(self.pool(x)),
        )
        return torch.cat([branch.relu() for branch in branches], 1)


def sized(module) -> dict[str, tuple[int, ...]]:
    return {var.name: shape_of(var) for var in Graph(module).layers if hasattr(var.ty, "shape")}


def names(module) -> set[str]:
    return {var.name for var in Graph(module).layers}


def check(before, merged: Merged) -> None:
    """What holds after any merges."""
    old, new = sized(before), sized(merged.module)
    for name, stands in merged.stands_for.items():
        assert name in old
        assert old[name] == new[stands]
    assert merged.anew <= names(merged.module)
    assert merged.anew.isdisjoint(merged.stands_for.values())
    known = names(before) - merged.stands_for.keys()
    assert names(merged.module) <= known | merged.anew | set(merged.stands_for.values())


@pytest.fixture(scope="module")
def stem():
    """Convolution, ReLU, pool, LRN, convolution, ReLU."""
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.LocalResponseNorm(3)]
    network = nn.Sequential(*layers, nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    return load_network(network.eval(), example_inputs=torch.randn(1, 1, 16, 16)).module


@pytest.fixture(scope="module")
def blocks():
    """Two blocks and a pool between them."""
    network = nn.Sequential(Inception(6), nn.MaxPool2d(2), Inception(12))
    return load_network(network.eval(), example_inputs=torch.randn(1, 6, 16, 16)).module


def test_a_streamline(stem):
    merged = make_merges(stem)
    check(stem, merged)
    assert merged.stands_for == {"3": "1"}
    assert merged.anew == {"0", "0.bias"}


def test_nothing_made(stem):
    merged = make_merges(stem, choice=exact_only)
    assert (merged.stands_for, merged.anew) == ({}, frozenset())


def test_branches(blocks):
    plan = plan_merges(blocks)
    branches = plan.model_copy(update={"candidates": plan.candidates[:1]})
    merged = make_merges(blocks, choice=Planned(branches))
    check(blocks, merged)
    assert merged.stands_for == {"0.cat": "0.cat"}
    assert {"0.conv3x3", "0.reduce3"} <= merged.anew
    assert not any(name.startswith("2.") for name in merged.anew)


def test_a_pool_behind_branches_makes_the_block_stand_for_itself(blocks):
    """The entry of the block alone would say that its concat still has its value."""
    merged = make_merges(blocks)
    check(blocks, merged)
    assert merged.stands_for == {"1": "0.cat", "2.cat": "2.cat"}


def test_a_pool_later_than_its_block(blocks):
    """The same, step by step, as a retraining does it."""
    plan = plan_merges(blocks)
    (pool,) = (each for each in plan.candidates if "1" in each.layers)
    rest = [each for each in plan.candidates if each is not pool]
    first = make_merges(blocks, choice=Planned(plan.model_copy(update={"candidates": tuple(rest)})))
    check(blocks, first)
    assert first.stands_for == {"0.cat": "0.cat", "2.cat": "2.cat"}
    second = make_merges(first.module, choice=Planned(plan))
    check(first.module, second)
    assert second.stands_for == {"1": "0.cat"}


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_folds(from_torch, randomised, pool):
    """Exact merges: what stands for a layer computes what that did."""

    def stage(inputs):
        return nn.Sequential(nn.Conv2d(inputs, 4, 3, padding=1), nn.BatchNorm2d(4), pool, nn.ReLU())

    case = from_torch(randomised(nn.Sequential(stage(3), stage(4))), torch.randn(1, 3, 16, 16))
    merged = make_merges(case.module, choice=exact_only)
    assert merged.plan.candidates
    check(case.module, merged)
    assert merged.stands_for
    for old, new in merged.stands_for.items():
        wanted = evaluate(case.module, case.inputs, [old])[-1]
        np.testing.assert_allclose(
            evaluate(merged.module, case.inputs, [new])[-1], wanted, rtol=1e-3, atol=1e-4
        )
    same = set(sized(merged.module)) & set(sized(case.module)) - merged.anew - set(merged.stands_for.values())
    for name in same:
        wanted = evaluate(case.module, case.inputs, [name])[-1]
        np.testing.assert_allclose(
            evaluate(merged.module, case.inputs, [name])[-1], wanted, rtol=1e-3, atol=1e-4
        )


def test_tucker(from_torch):
    network = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    module = from_torch(network, torch.randn(1, 8, 12, 12)).module
    merged = make_merges(module, ranks=Ratio(0.5))
    assert len(merged.plan.decompositions) == 2
    check(module, merged)
    for name, new in merged.stands_for.items():
        assert name in ("0", "2")
        assert new.startswith(name)
    assert {"0", "2"} <= merged.anew | set(merged.stands_for.values())


def test_decomposing_a_layer_that_a_merge_made(blocks):
    """The original's layer of the same name is another: nothing stands for it."""
    merged = make_merges(blocks, ranks=Ratio(0.5))
    assert "0.conv3x3" in {each.found_at for each in merged.plan.decompositions}
    check(blocks, merged)
    assert merged.stands_for == {"1": "0.cat", "2.cat": "2.cat"}
