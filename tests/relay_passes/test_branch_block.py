import pytest
import torch
from torch import nn

from relay_passes.branch_block import branch_at, groups_of, taps_of
from relay_passes.graph import Graph
from relay_passes.merge_plan import Reason


class Block(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


@pytest.fixture
def branches_of(from_torch):
    def branches(*layers, size=8):
        graph = Graph(from_torch(Block(*layers), torch.randn(1, 4, size, size)).module)
        operands = graph.joined_channels(graph.layers[-1])
        return [branch_at(graph, operand, place) for place, operand in enumerate(operands)]

    return branches


def _conv(kernel, outputs=3, inputs=4, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


POOLED = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(1))
DEEP = nn.Sequential(_conv(1, 6), nn.ReLU(), _conv(5, 3, 6), nn.ReLU())


def test_a_branch_and_its_parts(branches_of):
    pooled, deep = branches_of(POOLED, DEEP)
    assert (pooled.is_small, deep.is_small) == (True, False)
    assert (len(pooled.blocks), len(deep.blocks)) == (1, 2)
    assert [var.name for var in pooled.vars] == ["max_pool2d_1", "branches.0.1", "branches.0.1.bias"]
    assert pooled.source.same_as(deep.source)
    assert [branch.channels for branch in (pooled, deep)] == [3, 3]
    assert (pooled.last.kernel, deep.last.kernel) == ((1, 1), (5, 5))


def test_strides_multiply(branches_of):
    pooled, deep = branches_of(
        nn.Sequential(nn.MaxPool2d(2, 2), _conv(1, stride=2)), nn.Sequential(_conv(1, 4), _conv(3, stride=4))
    )
    assert (pooled.strides, deep.strides) == ((4, 4), (4, 4))


def test_a_1x1_goes_into_the_smallest_and_a_pool_into_the_largest(branches_of):
    branches = branches_of(_conv(5), _conv(1), _conv(3), nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(1)))
    groups = groups_of(branches)
    absorbed = {group.absorber.place: [branch.place for branch in group.absorbed] for group in groups}
    assert absorbed == {0: [3], 2: [1]}
    assert [[member.place for member in group.members] for group in groups] == [[0, 3], [1, 2]]


def test_of_equal_kernels_the_shorter_row_takes_the_1x1(branches_of):
    deep = nn.Sequential(_conv(1, 6), _conv(3, 6, 6), _conv(3, 3, 6))
    groups = groups_of(branches_of(deep, nn.Sequential(_conv(1, 6), _conv(3, 3, 6)), _conv(1)))
    assert {group.absorber.place: len(group.absorbed) for group in groups} == {0: 0, 1: 1}


def test_the_next_in_size_takes_what_the_first_cannot(branches_of):
    grouped = _conv(3, 4, groups=4)
    groups = groups_of(branches_of(_conv(1), grouped, _conv(5)))
    assert {group.absorber.place: len(group.absorbed) for group in groups} == {1: 0, 2: 1}


def test_the_first_refusal_is_told(branches_of):
    assert groups_of(branches_of(_conv(1), _conv(3, 4, groups=4)))[0] is Reason.GROUPED


def test_shrinking_only_where_a_1x1_is_taken_in_behind_a_reducer(branches_of):
    with_pool = groups_of(branches_of(DEEP, nn.Sequential(*POOLED, nn.ReLU())))
    with_pixel = groups_of(branches_of(DEEP, nn.Sequential(_conv(1), nn.ReLU())))
    without_reducer = groups_of(branches_of(_conv(3), _conv(1)))
    assert [group.shrinks for group in (*with_pool, *with_pixel, *without_reducer)] == [False, True, False]
    assert [group.changed for group in (*with_pool, *with_pixel, *without_reducer)] == [
        ("branches.0.2",),
        ("branches.0.0", "branches.0.2"),
        ("branches.0",),
    ]
    assert [group.is_exact for group in (*with_pool, *with_pixel, *without_reducer)] == [False, False, True]


def test_the_taps_of_a_branch(branches_of):
    large, pixel, pooled, even = branches_of(_conv(5), _conv(1), POOLED, nn.Conv2d(4, 3, 3, padding=1))
    assert taps_of(large, pixel) == (slice(2, 3, 1), slice(2, 3, 1))
    assert taps_of(large, pooled) == (slice(2, 3, 1), slice(2, 3, 1))
    assert taps_of(large, even) == (slice(1, 4, 1), slice(1, 4, 1))
    assert taps_of(even, large) == (None, None)


def test_a_convolution_behind_a_strided_pool_has_its_taps_apart(branches_of):
    pooled = nn.Sequential(nn.MaxPool2d(1, 2), nn.Conv2d(4, 3, 3, padding=1))
    large, small = branches_of(nn.Conv2d(4, 3, 7, stride=2, padding=3), pooled)
    assert taps_of(large, small) == (slice(1, 6, 2), slice(1, 6, 2))
