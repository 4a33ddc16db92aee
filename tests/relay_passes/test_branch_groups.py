"""What a division says it changes and costs is what the merged graph has."""

import pytest
import torch
from torch import nn

from relay_passes import cost
from relay_passes.branch_block import forks_of
from relay_passes.branch_groups import divided, half
from relay_passes.graph import Graph
from relay_passes.merge import Findings, next_sweep
from relay_passes.merge_branches import Block as BranchBlock


class Block(nn.Module):
    def __init__(self, *branches, stem=None):
        super().__init__()
        self.stem = stem or nn.Identity()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        x = self.stem(x)
        return torch.cat([branch(x) for branch in self.branches], 1)


def _conv(kernel, outputs=3, inputs=5, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


POOLED = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(1, 2))
DEEP = nn.Sequential(_conv(1, 7), _conv(3, 4, 7))
DIVISIONS = {
    "a pool behind a reducer": ([DEEP, POOLED], {1: 0}, [False, False]),
    "a pixel behind a reducer": ([DEEP, _conv(1)], {1: 0}, [True, False]),
    "a pool alone behind a reducer": ([DEEP, nn.MaxPool2d(3, 1, 1)], {1: 0}, [True, False]),
    "a pixel behind a squeeze": ([_conv(3), _conv(1), DEEP], {1: 0}, [False, True]),
    "a pool behind a squeeze": ([_conv(3), POOLED], {1: 0}, [False, False]),
    "a pool stays on a squeeze": ([_conv(3), _conv(1), POOLED], {1: 0}, [False, False]),
    "pixels on a squeeze": ([_conv(1), _conv(1)], {1: 0}, [False, False]),
    "nothing": ([_conv(3), _conv(1)], {}, [False, False]),
}


@pytest.fixture
def division_of(from_torch):
    def division(branches, absorbers):
        module = from_torch(Block(*branches, stem=_conv(1, 5)), torch.randn(1, 5, 6, 6)).module
        graph = Graph(module)
        block = BranchBlock.at(graph, graph.layers[-1])
        (fork,) = forks_of(graph, block.own, block.untrained)
        places = {branch.place: branch for branch in fork.branches}
        return module, block, divided(fork, {place: places[into] for place, into in absorbers.items()})

    return division


@pytest.mark.parametrize(("branches", "absorbers", "shrinking"), DIVISIONS.values(), ids=DIVISIONS.keys())
def test_the_cost_of_a_division(division_of, branches, absorbers, shrinking):
    module, block, division = division_of(branches, absorbers)
    assert [any(group.shrinks for group in division.groups), division.squeezes] == shrinking
    if not division.changed:
        assert division.macs_change == 0
        return
    merge = block.merge("block", [division])
    sweep = next_sweep(module, lambda _: Findings((merge,), ()), lambda _: True)
    assert cost(sweep.module).macs - cost(module).macs == division.macs_change
    assert sweep.changes[0].macs == division.macs_change


def test_what_a_group_changes(division_of):
    _, _, division = division_of([DEEP, _conv(1)], {1: 0})
    (group,) = division.groups
    assert group.changed == ("branches.0.0", "branches.0.1")
    assert group.widths == [(5, 4), (4, 7)]
    assert not group.is_exact
    _, _, division = division_of([_conv(1), _conv(1)], {1: 0})
    assert division.groups[0].is_exact


def test_half_of_an_odd_number():
    assert [half(n) for n in (1, 2, 7)] == [1, 1, 4]
