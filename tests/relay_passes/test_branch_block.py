import pytest
import torch
from torch import nn

from relay_passes.branch_block import Branch, branch_at, channel_split, forks_of
from relay_passes.graph import Graph
from relay_passes.merge_plan import Reason


class Block(nn.Module):
    def __init__(self, *branches, stem=None):
        super().__init__()
        self.stem = stem or nn.Identity()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        x = self.stem(x)
        return torch.cat([branch(x) for branch in self.branches], 1)


def _found(from_torch, net, channels=4):
    graph = Graph(from_torch(net, torch.randn(1, channels, 8, 8)).module)
    operands = graph.joined_channels(graph.layers[-1])
    return graph, [branch_at(graph, operand, place) for place, operand in enumerate(operands)]


@pytest.fixture
def branches_of(from_torch):
    return lambda *layers, **options: _found(from_torch, Block(*layers, **options))[1]


@pytest.fixture
def forks_in(from_torch):
    def forks(*layers, untrained=frozenset(), **options):
        graph, branches = _found(from_torch, Block(*layers, **options))
        return forks_of(graph, branches, untrained)

    return forks


def _conv(kernel, outputs=3, inputs=4, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


POOLED = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(1))
DEEP = nn.Sequential(_conv(1, 6), nn.ReLU(), _conv(5, 3, 6), nn.ReLU())


def test_a_branch_and_its_parts(branches_of):
    pooled, deep, pixel = branches_of(POOLED, DEEP, _conv(1))
    assert [branch.is_small for branch in (pooled, deep, pixel)] == [True, False, True]
    assert [branch.is_large for branch in (pooled, deep, pixel)] == [False, True, False]
    assert [branch.is_pixel for branch in (pooled, deep, pixel)] == [False, False, True]
    assert (len(pooled.blocks), len(deep.blocks)) == (1, 2)
    assert [var.name for var in pooled.vars] == ["max_pool2d_1", "branches.0.1", "branches.0.1.bias"]
    assert pooled.source.same_as(deep.source)
    assert [branch.channels for branch in (pooled, deep)] == [3, 3]
    assert (pooled.last.kernel, deep.last.kernel) == ((1, 1), (5, 5))
    assert (pooled.reducer, deep.reducer.name, deep.first.name) == (None, "branches.1.0", "branches.1.0")


def test_strides_multiply(branches_of):
    pooled, deep = branches_of(
        nn.Sequential(nn.MaxPool2d(2, 2), _conv(1, stride=2)), nn.Sequential(_conv(1, 4), _conv(3, stride=4))
    )
    assert (pooled.strides, deep.strides) == ((4, 4), (4, 4))


def test_a_pool_alone_stands_for_an_identity(branches_of):
    _, largest, mean = branches_of(
        _conv(3), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1), stem=nn.Hardtanh(1, 2)
    )
    assert (largest.is_pool_alone, largest.is_small, largest.name) == (True, True, "max_pool2d_1")
    assert largest.last.weight[:, :, 0, 0].tolist() == torch.eye(4).tolist()
    assert [var.name for var in largest.vars] == ["max_pool2d_1"]
    assert (largest.values, mean.values) == ((1, 2), (0, 2))
    assert (largest.averages, mean.averages) == (False, True)


def test_what_is_no_branch(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = _conv(1), _conv(3)

        def forward(self, x):
            return torch.cat([self.a(x), x, self.b(x).sin()], 1) + self.b(x).mean(), self.a(x)

    graph = Graph(from_torch(Net(), torch.randn(1, 4, 8, 8)).module)
    concat = next(var for var in graph.layers if graph.joined_channels(var))
    found = [branch_at(graph, operand, i) for i, operand in enumerate(graph.joined_channels(concat))]
    assert isinstance(found[0], Branch)
    assert [reason for reason, _ in found[1:]] == [Reason.NO_WEIGHTS, Reason.NO_WEIGHTS]


def test_a_part_of_a_convolution_is_cut(from_torch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = _conv(1), _conv(3)

        def forward(self, x):
            first, second = self.a(x).split([1, 2], 1)
            return torch.cat([first, self.b(x), second], 1)

    graph, branches = _found(from_torch, Net())
    assert [branch.is_cut for branch in branches] == [True, False, True]
    assert [branch.is_small for branch in branches] == [False, False, False]
    assert channel_split(graph, graph.layers[0]) is None


def test_branches_fork_where_they_start(forks_in):
    deep = nn.Sequential(nn.Tanhshrink(), _conv(3))
    forks = forks_in(_conv(1), deep, _conv(5))
    assert [[branch.place for branch in fork.branches] for fork in forks] == [[0, 2], [1]]


def test_a_squeeze_that_only_the_branches_read(forks_in):
    stem = nn.Sequential(_conv(1), nn.ReLU())
    (fork,) = forks_in(_conv(1, 3, 3), nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(1, 3, 3)), stem=stem)
    assert fork.squeeze.convolution.name == "stem.0"
    (fork,) = forks_in(_conv(1, 3, 3), _conv(3, 3, 3), stem=stem, untrained={"stem.0"})
    assert fork.squeeze is None


@pytest.mark.parametrize(
    ("branches", "stem"),
    [
        ([_conv(1, 3, 3), _conv(3, 3, 3)], _conv(3)),
        ([_conv(1, 3, 4), _conv(3, 3, 4)], _conv(1, 4, groups=2)),
        ([_conv(1, 3, 3), _conv(3, 3, 3, groups=3)], _conv(1)),
        ([_conv(3, 3, 3), nn.MaxPool2d(3, 1, 1)], _conv(1)),
        ([_conv(3, 3, 3), _conv(1, 3, 3), nn.Tanh()], _conv(1)),
        ([_conv(3), _conv(1)], None),
    ],
    ids=["3x3", "grouped", "read by groups", "read by a pool alone", "read by a stranger", "the input"],
)
def test_no_squeeze(from_torch, branches, stem):
    graph, found = _found(from_torch, Block(*branches, stem=stem))
    own = [branch for branch in found if isinstance(branch, Branch)]
    assert [fork.squeeze for fork in forks_of(graph, own, frozenset())] == [None]
