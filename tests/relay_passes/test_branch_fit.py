import pytest
import torch
from torch import nn

from relay_passes.branch_block import branch_at
from relay_passes.branch_fit import cannot_absorb, taps_of
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
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})


def _pooled(window=3, stride=1, **options):
    return nn.Sequential(nn.MaxPool2d(window, stride, window // 2), _conv(1, **options))


def test_the_taps_of_a_branch(branches_of):
    large, pixel, pooled, even = branches_of(_conv(5), _conv(1), _pooled(), nn.Conv2d(4, 3, 3, padding=1))
    assert taps_of(large, pixel) == (slice(2, 3, 1), slice(2, 3, 1))
    assert taps_of(large, pooled) == (slice(2, 3, 1), slice(2, 3, 1))
    assert taps_of(large, even) == (slice(1, 4, 1), slice(1, 4, 1))
    assert taps_of(even, large) == (None, None)


def test_a_convolution_behind_a_strided_pool_has_its_taps_apart(branches_of):
    pooled = nn.Sequential(nn.MaxPool2d(1, 2), nn.Conv2d(4, 3, 3, padding=1))
    large, small = branches_of(nn.Conv2d(4, 3, 7, stride=2, padding=3), pooled)
    assert taps_of(large, small) == (slice(1, 6, 2), slice(1, 6, 2))


FITS = {
    "a pixel in a 3x3": (_conv(3), _conv(1)),
    "a pool's pixel in a kernel of its size": (_conv(3), _pooled()),
    "a pool's pixel in a pixel": (_conv(1), _pooled()),
    "a strided pool in a strided kernel": (_conv(3, stride=2), _pooled(stride=2)),
    "a pool alone": (_conv(3), nn.MaxPool2d(3, 1, 1)),
    "dilation of one tap": (_conv(1, dilation=2), _conv(1)),
}

REFUSED = {
    "groups": (_conv(3, 4, groups=2), _conv(1), Reason.GROUPED),
    "dilated": (_conv(3, padding=2, dilation=2), _conv(1), Reason.DILATED),
    "a larger window": (_conv(3), _pooled(5), Reason.KERNEL_TOO_SMALL),
    "a window that is larger one way": (
        nn.Conv2d(4, 3, (3, 2), padding=1),
        nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 3, (1, 2), padding=(0, 1))),
        Reason.KERNEL_TOO_SMALL,
    ),
    "a pixel that would skip": (_conv(1, stride=2), _pooled(stride=2), Reason.KERNEL_TOO_SMALL),
    "strides": (nn.Conv2d(4, 3, 3, 2, 1), _conv(1, padding=0, stride=4), Reason.DIFFERENT_STRIDES),
    "outside": (_conv(3, padding=0, stride=8), _conv(1, padding=1, stride=8), Reason.NO_ABSORBER),
    "activations": (nn.Sequential(_conv(3), nn.ReLU()), _conv(1), Reason.DIFFERENT_ACTIVATIONS),
    "a pool alone of any values": (
        nn.Sequential(_conv(3), nn.ReLU()),
        nn.MaxPool2d(3, 1, 1),
        Reason.DIFFERENT_ACTIVATIONS,
    ),
}


@pytest.mark.parametrize(("absorber", "branch"), FITS.values(), ids=FITS.keys())
def test_branches_that_fit(branches_of, absorber, branch):
    assert cannot_absorb(*branches_of(absorber, branch)) is None


@pytest.mark.parametrize(("absorber", "branch", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_branches_that_do_not_fit(branches_of, absorber, branch, reason):
    size = 2 if reason is Reason.DIFFERENT_STRIDES else 12
    found, detail = cannot_absorb(*branches_of(absorber, branch, size=size))
    assert found is reason
    assert detail
