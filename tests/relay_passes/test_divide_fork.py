"""Who absorbs whom. The sizes are chosen so that it pays, or does not."""

import pytest
import torch
from torch import nn

from relay_passes.branch_block import branch_at, forks_of
from relay_passes.divide_fork import divide
from relay_passes.graph import Graph
from relay_passes.merge_plan import Reason


class Block(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


@pytest.fixture
def fork_of(from_torch):
    def fork(*branches, untrained=frozenset(), inputs=64):
        graph = Graph(from_torch(Block(*branches), torch.randn(1, inputs, 4, 4)).module)
        operands = graph.joined_channels(graph.layers[-1])
        found = [branch_at(graph, operand, place) for place, operand in enumerate(operands)]
        (only,) = forks_of(graph, found, untrained)
        return only

    return fork


def _conv(kernel, outputs=16, inputs=64, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def _reduced(kernel, reduce=16, outputs=64):
    return nn.Sequential(_conv(1, reduce), _conv(kernel, outputs, reduce))


def _pooled(outputs=4, window=3):
    return nn.Sequential(nn.MaxPool2d(window, 1, window // 2), _conv(1, outputs))


def _absorbed(division):
    return {g.absorber.place: [b.place for b in g.absorbed] for g in division.groups if g.absorbed}


def test_a_1x1_goes_into_the_smallest_and_a_pool_into_the_largest(fork_of):
    division, refused = divide(fork_of(_reduced(5, 4), _conv(1), _reduced(3), _pooled()))
    assert _absorbed(division) == {0: [3], 2: [1]}
    assert [[branch.place for branch in group.members] for group in division.groups] == [[0, 3], [1, 2]]
    assert [group.shrinks for group in division.groups] == [False, True]
    assert refused == {}


def test_of_equal_kernels_the_cheapest(fork_of):
    deep = nn.Sequential(_conv(1, 16), _conv(3, 32, 16), _conv(3, 32, 32))
    division, _ = divide(fork_of(deep, _reduced(3), _conv(1), _pooled(32)))
    assert _absorbed(division) == {1: [2, 3]}


def test_the_next_in_size_takes_what_the_first_cannot(fork_of):
    division, _ = divide(fork_of(_conv(1), _conv(3, 16, groups=4), _reduced(5, 8)))
    assert _absorbed(division) == {2: [0]}


def test_a_branch_that_costs_goes_elsewhere(fork_of):
    """The paper's 5x5 would take far more multiply-adds than the 3x3, whose reducer shrinks anyway."""
    division, refused = divide(fork_of(_reduced(3), _conv(1, 8), _reduced(5, 32, 32), _pooled(32)))
    assert _absorbed(division) == {0: [1, 3]}
    assert division.macs_change < 0
    assert refused == {}


def test_a_branch_that_costs_everywhere_stays(fork_of):
    division, refused = divide(fork_of(_reduced(3, 32), _conv(1), _pooled(256)))
    assert _absorbed(division) == {0: [1]}
    reason, detail = refused[2]
    assert reason is Reason.SAVES_NOTHING
    before = 256 * 64 * 16
    after = 256 * 16 * 9 * 16
    assert f"{after - before:+,}" in detail


def test_a_reducer_is_halved_once(fork_of):
    division, _ = divide(fork_of(_reduced(3, 64), _conv(1)))
    assert division.groups[0].shrinks
    division, refused = divide(fork_of(_reduced(3, 64), _conv(1), untrained={"branches.0.0"}))
    assert not division.groups[0].shrinks
    assert [reason for reason, _ in refused.values()] == [Reason.SAVES_NOTHING]


@pytest.mark.parametrize(
    ("branches", "stacked"),
    [
        ([_conv(1), _conv(1), _conv(1)], {0: [1, 2]}),
        ([_conv(1), _conv(3), _conv(1)], {}),
        ([_conv(1), _conv(1, groups=4), _conv(1)], {}),
        ([_conv(1), _conv(1), _conv(3), _conv(1), _conv(1)], {0: [1], 3: [4]}),
        ([_pooled(), _conv(1), _pooled(5, 5)], {1: [0, 2]}),
        ([_pooled(), _pooled()], {}),
        ([_pooled(300), _conv(1), _conv(3)], {}),
        ([nn.MaxPool2d(3, 1, 1), _conv(1), _conv(1)], {1: [2]}),
    ],
)
def test_pixels_side_by_side(fork_of, branches, stacked):
    division, refused = divide(fork_of(*branches))
    assert _absorbed(division) == stacked
    assert division.macs_change == 0
    taking_part = {place for leader, others in stacked.items() for place in (leader, *others)}
    small = {branch.place for branch in division.fork.branches if branch.is_small}
    assert refused.keys() == small - taking_part


def test_the_first_refusal_is_told(fork_of):
    _, refused = divide(fork_of(_conv(1), _conv(3, 4, groups=4)))
    assert {place: reason for place, (reason, _) in refused.items()} == {0: Reason.GROUPED}
