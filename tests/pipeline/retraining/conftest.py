"""Tiny networks, trained in seconds, and data that is easy to learn."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import tvm
from torch import Tensor, nn

from pipeline.data import Batch
from pipeline.exporter import to_onnx
from pipeline.importer import load_network
from pipeline.torch_threads import one_thread
from relay_passes import exact_only, make_merges

SIZE, CLASSES = 16, 3


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """One thread, a seed, and no warnings of torch's exporter."""
    torch.manual_seed(0)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Inception(nn.Module):
    """Four branches that read the same."""

    def __init__(self, inputs: int, alone: int, three: int, five: int, pooled: int):
        super().__init__()
        self.conv1x1 = nn.Conv2d(inputs, alone, 1)
        self.conv3x3_reduce, self.conv3x3 = nn.Conv2d(inputs, three, 1), nn.Conv2d(three, three, 3, padding=1)
        self.conv5x5_reduce, self.conv5x5 = nn.Conv2d(inputs, five, 1), nn.Conv2d(five, five, 5, padding=2)
        self.pool, self.pool_proj = nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.conv1x1(x),
            self.conv3x3(self.conv3x3_reduce(x).relu()),
            self.conv5x5(self.conv5x5_reduce(x).relu()),
            self.pool_proj(self.pool(x)),
        )
        return torch.cat([branch.relu() for branch in branches], 1)


def chain() -> nn.Module:
    """Two convolutions, each with a max pool behind it."""
    layers = OrderedDict(conv1=nn.Conv2d(1, 6, 3, padding=1), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2))
    layers |= OrderedDict(conv2=nn.Conv2d(6, 8, 3, padding=1), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2))
    return nn.Sequential(layers | _classifier(8))


def inception() -> nn.Module:
    """GoogLeNet in small: a stem with an LRN and a pool, two blocks with a pool between them."""
    layers = OrderedDict(conv1=nn.Conv2d(1, 6, 3, padding=1), relu1=nn.ReLU())
    layers |= OrderedDict(norm1=nn.LocalResponseNorm(3), pool1=nn.MaxPool2d(2))
    layers |= OrderedDict(block_a=Inception(6, 3, 4, 2, 3), pool2=nn.MaxPool2d(2))
    return nn.Sequential(layers | OrderedDict(block_b=Inception(12, 3, 4, 2, 3)) | _classifier(12))


def _classifier(channels: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=nn.Linear(channels, CLASSES)
    )


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of horizontal, vertical and slanted stripes, and which they are."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    row, column = np.mgrid[:SIZE, :SIZE]
    along = np.stack([row, column, row + column])[labels]
    phase = rng.integers(0, 4, (count, 1, 1))
    stripes = ((along + phase) % 4 < 2) * 110 + rng.normal(70, 25, (count, SIZE, SIZE))
    return stripes.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def trained(network: nn.Module, seed: int) -> nn.Module:
    """The network after a second of training."""
    images, labels = draw(256, seed)
    inputs, labels = torch.from_numpy(images[:, None] / 255).float(), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        rows = torch.randint(len(inputs), (48,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[rows]), labels[rows]).backward()
        optimizer.step()
    return network.eval()


@dataclass(frozen=True)
class Files:
    """What a retraining starts from."""

    chain: Path
    inception: Path
    data: Path
    unlabelled: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two trained networks and their data, in a folder with a blank and non-ASCII letters."""
    folder = tmp_path_factory.mktemp("prêt à apprendre")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in (("chain", chain), ("inception", inception)):
            torch.manual_seed(3)
            write_network(trained(make(), seed=1), folder / f"{name}.onnx")
    (x, y), (x_test, y_test) = draw(192, seed=2), draw(96, seed=3)
    np.savez(folder / "stripes.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    np.savez(folder / "unlabelled.npz", x_train=x, x_test=x_test)
    return Files(
        *(folder / name for name in ("chain.onnx", "inception.onnx", "stripes.npz", "unlabelled.npz"))
    )


def write_network(network: nn.Module, path: Path, size: int = SIZE) -> Path:
    """A torch network on one grey image as an ONNX file."""
    loaded = load_network(network, example_inputs=torch.rand(1, 1, size, size))
    inputs, outputs = ([spec.name for spec in specs] for specs in (loaded.inputs, loaded.outputs))
    onnx.save(to_onnx(loaded.module, name=path.stem, inputs=inputs, outputs=outputs), path)
    return path


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """A function that writes a torch network as an ONNX file."""
    return write_network


@pytest.fixture(scope="session")
def original(files: Files) -> tvm.IRModule:
    """The small GoogLeNet with its exact merges."""
    return make_merges(load_network(files.inception).module, choice=exact_only).module


@pytest.fixture
def batch() -> Batch:
    """Twelve samples with labels."""
    images, labels = draw(12, seed=4)
    return Batch((torch.from_numpy(images[:, None] / 255).float(),), torch.from_numpy(labels))
