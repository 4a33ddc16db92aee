"""Convolutions as networks of one layer, with their results by torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tvm import relax
from tvm.ir import IRModule, Op

from tuning.lowering.network import calls_of

_CONVOLUTION = Op.get("relax.nn.conv2d")


@dataclass(frozen=True)
class Layer:
    """A convolution of an image, and perhaps bias, a second image that is added, and ReLU."""

    inputs: int = 16
    outputs: int = 32
    height: int = 14
    width: int = 14
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    batch: int = 1
    relu: bool = True
    dtype: str = "float32"

    def module(self, weight: np.ndarray, bias: np.ndarray, other: np.ndarray | None = None) -> IRModule:
        """Return the network, with the second image if there is one."""
        builder = relax.BlockBuilder()
        shapes = [(self.batch, self.inputs, self.height, self.width)]
        shapes += [] if other is None else [other.shape]
        inputs = [
            relax.Var(f"image{at}", relax.TensorType(shape, self.dtype)) for at, shape in enumerate(shapes)
        ]
        with builder.function("main", inputs, attrs={"num_input": len(inputs)}):
            with builder.dataflow():
                y = builder.emit(
                    relax.op.nn.conv2d(
                        inputs[0],
                        relax.const(weight.astype(self.dtype)),
                        strides=(self.stride, self.stride),
                        padding=self.padding,
                        dilation=(self.dilation, self.dilation),
                        groups=self.groups,
                    )
                )
                if self.relu:
                    y = builder.emit(relax.op.add(y, relax.const(bias.astype(self.dtype))))
                if other is not None:
                    y = builder.emit(relax.op.add(y, inputs[1]))
                if self.relu:
                    y = builder.emit(relax.op.nn.relu(y))
                result = builder.emit_output(y)
            builder.emit_func_output(result)
        return builder.get()

    def packed_module(
        self,
        convolved: Callable[[relax.BlockBuilder, relax.Expr, relax.Call, int], relax.Expr],
        blocks: tuple[int, int],
    ) -> IRModule:
        """Return the network with a packed image and a packed result, given what emits the convolution."""
        image, weight, bias = self.values()
        (call,) = (each for each in calls_of(self.module(weight, bias)) if each.op == _CONVOLUTION)
        data = relax.Var("image", relax.TensorType(self.packed(image, blocks[0]).shape, "float32"))
        builder = relax.BlockBuilder()
        with builder.function("main", [data], attrs={"num_input": 1}):
            with builder.dataflow():
                y = builder.emit(convolved(builder, data, call, blocks[1]))
                if self.relu:
                    y = builder.emit(relax.op.add(y, relax.const(self.packed(bias, blocks[1]))))
                    y = builder.emit(relax.op.nn.relu(y))
                result = builder.emit_output(y)
            builder.emit_func_output(result)
        return builder.get()

    @staticmethod
    def packed(image: np.ndarray, block: int) -> np.ndarray:
        """Return an image with NaN beyond its channels."""
        batch, channels, height, width = image.shape
        filled = np.pad(image, [(0, 0), (0, -channels % block), (0, 0), (0, 0)], constant_values=np.nan)
        return np.ascontiguousarray(np.moveaxis(filled.reshape(batch, -1, block, height, width), 2, -1))

    @staticmethod
    def unpacked(image: np.ndarray, channels: int) -> np.ndarray:
        """Return a packed image in NCHW."""
        batch, _, height, width, _ = image.shape
        return np.moveaxis(image, -1, 2).reshape(batch, -1, height, width)[:, :channels]

    def values(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an image, weights and bias."""
        weight = self._random(self.outputs, self.inputs // self.groups, self.kernel, self.kernel)
        image = self._random(self.batch, self.inputs, self.height, self.width)
        return image, weight, self._random(1, self.outputs, 1, 1)

    def in_torch(self, image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return the result in float64."""
        image, weight, bias = (torch.from_numpy(each.astype("float64")) for each in (image, weight, bias))
        top, left, bottom, right = self.padding
        padded = torch.nn.functional.pad(image, (left, right, top, bottom))
        y = torch.nn.functional.conv2d(
            padded, weight, stride=self.stride, dilation=self.dilation, groups=self.groups
        )
        return (torch.relu(y + bias) if self.relu else y).numpy()

    def _random(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


@pytest.fixture(scope="session")
def layer() -> Callable[..., Layer]:
    return Layer
