"""Functions to search for, with their results by torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import tvm
from tvm import relax
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY


@dataclass(frozen=True)
class Convolution:
    """A convolution of an image, and perhaps what follows it: bias and ReLU."""

    inputs: int = 16
    outputs: int = 32
    height: int = 14
    width: int = 14
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    groups: int = 1
    batch: int = 1
    relu: bool = True
    dtype: str = "float32"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of image, weight and bias."""
        weight = (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
        shapes = [(self.batch, self.inputs, self.height, self.width), weight]
        return [*shapes, (1, self.outputs, 1, 1)] if self.relu else shapes

    @property
    def options(self) -> dict[str, int]:
        return {"padding": self.padding, "groups": self.groups}

    def task(self, target: tvm.target.Target) -> IRModule:
        """Return its TIR function as tuning sees it."""
        constants = [relax.const(np.zeros(shape), self.dtype) for shape in self.shapes[1:]]
        builder = relax.BlockBuilder()
        image = relax.Var("image", relax.TensorType(self.shapes[0], self.dtype))
        with builder.function("main", [image], attrs={"num_input": 1}):
            with builder.dataflow():
                strides = (self.stride, self.stride)
                y = builder.emit(relax.op.nn.conv2d(image, constants[0], strides=strides, **self.options))
                if self.relu:
                    y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, constants[1]))))
                result = builder.emit_output(y)
            builder.emit_func_output(result)
        return only_task(builder.get(), target)

    def in_torch(self, values: list[np.ndarray]) -> np.ndarray:
        image, weight, *bias = map(torch.from_numpy, values)
        y = torch.nn.functional.conv2d(image, weight, stride=self.stride, **self.options)
        return (torch.relu(y + bias[0]) if bias else y).numpy()

    def values(self) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal(shape).astype("float32") for shape in self.shapes]


def only_task(module: IRModule, target: tvm.target.Target) -> IRModule:
    (task,) = ms.relax_integration.extract_tasks(
        prepare(module, target), target, module_equality=MODULE_EQUALITY
    )
    return task.dispatched[0]


@pytest.fixture(scope="session")
def convolution() -> Callable[..., Convolution]:
    return Convolution


@pytest.fixture(scope="session")
def computed(host: targets.TargetInfo) -> Callable[[IRModule, list[np.ndarray], tuple[int, ...]], np.ndarray]:
    """Compile a scheduled function for this machine and call it; weights are rearranged when it is called."""

    def compute(module: IRModule, values: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        output = tvm.runtime.tensor(np.full(shape, np.nan, "float32"))
        tvm.compile(module, host.target())["main"](*map(tvm.runtime.tensor, values), output)
        return output.numpy()

    return compute


@pytest.fixture(scope="session")
def light_task(host: targets.TargetInfo) -> IRModule:
    """A pool as tuning sees it."""
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 8, 12, 12), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            pool = relax.op.nn.max_pool2d(image, (3, 3), strides=(2, 2), padding=(1, 1))
            result = builder.emit_output(builder.emit(pool))
        builder.emit_func_output(result)
    return only_task(builder.get(), host.target())
