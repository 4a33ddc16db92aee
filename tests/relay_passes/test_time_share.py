"""Shares of time, estimated and from a profile."""

import pytest
import torch
from torch import nn

from relay_passes import estimated_times, plan_merges, with_time_shares


@pytest.fixture
def module(from_torch):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1))
    return from_torch(net, torch.randn(1, 3, 16, 16)).module


def test_estimates_are_the_slower_of_arithmetic_and_memory(module):
    times = estimated_times(module)
    (pool,) = [name for name in times if "pool" in name]
    assert times["0"] == 16 * 16 * 8 * 3 * 9 / 4
    assert times[pool] == 4 * (16 * 16 * 8 + 8 * 8 * 8)
    assert times["3"] == 4 * (8 * 8 * 8 + 8 * 8 * 4 + 8 * 4)
    assert not any("relu" in name or "bias" in name for name in times)


def test_shares_of_a_profile(module):
    plan = plan_merges(module)
    (pool,) = [name for name in estimated_times(module) if "pool" in name]
    shown = with_time_shares(plan, {"0": 5.0, pool: 3.0, "3": 2.0}, "a board")
    assert [candidate.time_share for candidate in shown.candidates] == [pytest.approx(0.8)]
    assert shown.time_from == "a board"
    assert plan.candidates[0].time_share is None
