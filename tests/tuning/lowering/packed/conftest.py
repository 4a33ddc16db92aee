"""Functions of packed images: made, scheduled plainly, and run on channels with NaN beside them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.ir import Expr, IRModule
from tvm.s_tir import meta_schedule as ms

import targets
from tuning.prepare import prepare
from tuning.records.database import MODULE_EQUALITY
from tuning.searching.plain import plain_schedules
from tuning.searching.processor import processor_of
from tuning.searching.space import replay, tune_context

Body = Callable[[relax.BlockBuilder, relax.Var], Expr]


@dataclass(frozen=True)
class Packed:
    """Images whose channels are in blocks, and functions of one for a processor."""

    target: tvm.target.Target
    block: int

    def shape(self, channels: int, *sizes: int) -> tuple[int, ...]:
        return (1, -(-channels // self.block), *sizes, self.block)

    def packed(self, image: np.ndarray) -> np.ndarray:
        """Return an image packed, with NaN in the channels that fill its last block up."""
        _, channels, height, width = image.shape
        blocks = -(-channels // self.block)
        filled = np.full((1, blocks * self.block, height, width), np.nan, "float32")
        filled[:, :channels] = image
        split = filled.reshape(1, blocks, self.block, height, width)
        return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2))

    def unpacked(self, image: np.ndarray, channels: int) -> np.ndarray:
        _, blocks, height, width, block = image.shape
        return image.transpose(0, 1, 4, 2, 3).reshape(1, blocks * block, height, width)[:, :channels]

    def function(self, shape: tuple[int, ...], body: Body) -> IRModule:
        """Return the one function of a network of a packed image, as tuning sees it."""
        (task,) = ms.relax_integration.extract_tasks(
            prepare(network(shape, body), self.target), self.target, module_equality=MODULE_EQUALITY
        )
        return task.dispatched[0]

    def plain(self, function: IRModule) -> list[IRModule]:
        """Return the function as its plain schedules have it."""
        context = tune_context(function, self.target, heavy=True)
        found = plain_schedules(function, processor_of(self.target), 4)
        candidates = [replay(function, each.trace, context) for each in found]
        assert candidates
        assert None not in candidates
        return [each.sch.mod for each in candidates]

    def computed(self, function: IRModule, *values: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the results of the first and the last plain schedule."""
        shape = [int(each) for each in ms.arg_info.ArgInfo.from_prim_func(function["main"])[-1].shape]
        found = self.plain(function)
        for each in [found[0], *found[1:][-1:]]:
            output = tvm.runtime.tensor(np.full(shape, np.nan, "float32"))
            tvm.compile(each, self.target)["main"](*map(tvm.runtime.tensor, values), output)
            yield output.numpy()


def network(shape: tuple[int, ...], body: Body) -> IRModule:
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType(shape, "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(body(builder, image)))
        builder.emit_func_output(result)
    return builder.get()


@pytest.fixture(scope="session")
def run(host: targets.TargetInfo) -> Callable[[tuple[int, ...], Body, np.ndarray], np.ndarray]:
    """Compile a network of one image as TVM does by itself, and run it."""

    def compute(shape: tuple[int, ...], body: Body, image: np.ndarray) -> np.ndarray:
        compiled = tvm.compile(prepare(network(shape, body), host.target()), host.target())
        return relax.VirtualMachine(compiled, tvm.cpu())["main"](tvm.runtime.tensor(image)).numpy()

    return compute


@pytest.fixture(scope="session")
def packed(host: targets.TargetInfo) -> Packed:
    """Packed images for this machine."""
    return Packed(host.target(), processor_of(host.target()).lanes)


@pytest.fixture(scope="session")
def packed_for_a_phone() -> Packed:
    target = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "num-cores": 4}
    return Packed(tvm.target.Target(target), 4)


@pytest.fixture(scope="session")
def image() -> Callable[..., np.ndarray]:
    """Return an image of (1, channels, height, width), with numbers of either sign."""
    return lambda *sizes: np.random.default_rng(sum(sizes)).standard_normal((1, *sizes)).astype("float32")
