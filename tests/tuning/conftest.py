"""A small convolution network, the same in torch, and one local session for all tests."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

import targets
import tuning

SIZE = 12


@dataclass(frozen=True)
class SmallNet:
    """A network as a Relax module and as a function of torch."""

    module: tvm.IRModule
    weights: dict[str, np.ndarray]

    def image(self, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((1, 3, SIZE, SIZE)).astype("float32")

    def in_torch(self, image: np.ndarray) -> np.ndarray:
        weights = {name: torch.from_numpy(value) for name, value in self.weights.items()}
        y = torch.nn.functional.conv2d(torch.from_numpy(image), weights["conv"], padding=1) + weights["bias"]
        y = torch.nn.functional.max_pool2d(torch.relu(y), 2)
        return torch.softmax(y.flatten(1) @ weights["dense"].T, dim=1).numpy()


def make_net(channels: int = 8) -> SmallNet:
    """Make convolution, bias, ReLU, pooling, a dense layer whose weights are transposed, and softmax."""
    rng = np.random.default_rng(channels)
    flat = channels * (SIZE // 2) ** 2
    shapes = {"conv": (channels, 3, 3, 3), "bias": (1, channels, 1, 1), "dense": (10, flat)}
    weights = {name: (0.2 * rng.standard_normal(shape)).astype("float32") for name, shape in shapes.items()}
    constants = {name: relax.const(value) for name, value in weights.items()}
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 3, SIZE, SIZE), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(image, constants["conv"], padding=1))
            y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, constants["bias"]))))
            y = builder.emit(relax.op.nn.max_pool2d(y, (2, 2), strides=(2, 2)))
            y = builder.emit(relax.op.reshape(y, (1, flat)))
            dense = builder.emit(relax.op.permute_dims(constants["dense"]))
            y = builder.emit(relax.op.nn.softmax(builder.emit(relax.op.matmul(y, dense))))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    return SmallNet(builder.get(), weights)


@pytest.fixture(scope="session")
def host() -> targets.TargetInfo:
    return targets.find("host")


@pytest.fixture(scope="session")
def net() -> SmallNet:
    return make_net()


@pytest.fixture(scope="session")
def wide_net() -> SmallNet:
    """A network with so many channels that schedules want their weights in several layouts."""
    return make_net(96)


@pytest.fixture(scope="session")
def session(host: targets.TargetInfo) -> Iterator[tuning.LocalSession]:
    with tuning.LocalSession(host) as local:
        yield local
