"""A small network with everything that matters to float16."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pipeline.importer import load_network
from pipeline.network import Network


def make_network(layers: nn.Module, *shape: int) -> Network:
    torch.manual_seed(0)
    return load_network(layers.eval(), example_inputs=torch.randn(*shape), name="small")


@pytest.fixture(scope="session")
def imported() -> Callable[..., Network]:
    """A function that imports a torch module for inputs of a shape."""
    return make_network


@pytest.fixture
def classifier() -> nn.Module:
    """Convolution, activation, pool, dense layer and softmax."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Softmax(1),
    )
