"""Networks with packed tensors compute what they computed before; only their ends are rearranged."""

from collections import Counter

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import IRModule

import targets
from pipeline.twin import evaluate
from tuning.lowering.network import calls_of, lower

SIZE = 9


class Writer:
    """Writes a network of random weights, layer after layer; `y` is the tensor at its end."""

    def __init__(self, channels: int, seed: int = 0) -> None:
        self._builder = relax.BlockBuilder()
        self._random = np.random.default_rng(seed)
        self.image = relax.Var("image", relax.TensorType((1, channels, SIZE, SIZE), "float32"))
        self.y: relax.Expr = self.image

    @property
    def channels(self) -> int:
        return int(self.y.ty.shape[1])

    def constant(self, *shape: int) -> relax.Expr:
        return relax.const(self._random.standard_normal(shape).astype("float32"))

    def emit(self, call: relax.Expr) -> relax.Expr:
        self.y = self._builder.emit(call)
        return self.y

    def conv(self, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> relax.Expr:
        taps = self.channels // groups * kernel**2
        weight = self._random.standard_normal((outputs, self.channels // groups, kernel, kernel)) / taps**0.5
        pad = (kernel // 2,) * 4
        return self.emit(
            relax.op.nn.conv2d(
                self.y,
                relax.const(weight.astype("float32")),
                strides=(stride,) * 2,
                padding=pad,
                groups=groups,
            )
        )

    def network(self, write: "callable") -> IRModule:
        with self._builder.function("main", [self.image], attrs={"num_input": 1}):
            with self._builder.dataflow():
                write(self)
                result = self._builder.emit_output(self.y)
            self._builder.emit_func_output(result)
        return self._builder.get()


def branches(net: Writer) -> None:
    """Convolutions side by side, the last one with channels that fill no block."""
    data = net.y
    parts = []
    for outputs, kernel in ((16, 1), (16, 3), (5, 5)):
        net.y = data
        net.conv(outputs, kernel)
        parts.append(net.emit(relax.op.nn.relu(net.y)))
    net.emit(relax.op.concat(parts, axis=1))


def uneven_branches(net: Writer) -> None:
    """The first one's channels fill no block."""
    data = net.y
    parts = []
    for outputs in (12, 16):
        net.y = data
        parts.append(net.conv(outputs, 1))
    net.emit(relax.op.concat(parts, axis=1))


def residual(net: Writer) -> None:
    data = net.y
    net.conv(net.channels)
    net.emit(relax.op.nn.relu(net.emit(relax.op.add(net.y, data))))


def scaled(net: Writer) -> None:
    """What a batch norm leaves, with constants of three axes and of one value, and values out of range."""
    net.emit(relax.op.multiply(net.y, net.constant(1, net.channels, 1, 1)))
    net.emit(relax.op.add(net.constant(net.channels, 1, 1), net.y))
    net.emit(relax.op.divide(net.y, relax.const(2.0)))
    net.emit(relax.op.clip(net.y, -1.5, 1.5))


def excited(net: Writer) -> None:
    """Squeeze and excitation: each channel times a number computed from all of them."""
    data = net.y
    net.emit(relax.op.mean(data, axis=[2, 3], keepdims=True))
    net.conv(5, 1)
    net.conv(int(data.ty.shape[1]), 1)
    net.emit(relax.op.multiply(data, net.emit(relax.op.sigmoid(net.y))))


def split(net: Writer) -> None:
    """The parts of a convolution around another one, as merged branches have them."""
    channels, data = 48, net.y
    net.conv(32, 1)
    between, net.y = net.y, data
    net.conv(channels, 1)
    parts = net.emit(relax.op.split(net.y, [32], axis=1))
    first, last = net.emit(parts[0]), net.emit(parts[1])
    net.emit(relax.op.concat([first, between, last], axis=1))
    net.conv(9, 1)


def split_in_a_block(net: Writer) -> None:
    """Between channels that lie in one block."""
    net.conv(40, 1)
    parts = net.emit(relax.op.split(net.y, [9, 30], axis=1))
    net.emit(relax.op.concat([net.emit(parts[at]) for at in (2, 0, 1)], axis=1))
    net.conv(9, 1)


def reciprocal(net: Writer) -> None:
    """Division by what is zero behind the last channel, and a convolution after it."""
    net.emit(relax.op.divide(relax.const(1.0), net.emit(relax.op.add(relax.op.abs(net.y), relax.const(0.5)))))
    net.conv(7, 1)


def pooled(net: Writer) -> None:
    net.emit(relax.op.nn.max_pool2d(net.y, (3, 3), (1, 1), (1, 1, 1, 1)))
    net.emit(relax.op.nn.avg_pool2d(net.y, (3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=True))


def depthwise(net: Writer) -> None:
    net.conv(net.channels, groups=net.channels)


def in_groups(net: Writer) -> None:
    """Whole blocks for each of two groups, then groups of a few channels."""
    net.conv(32, 1)
    net.conv(64, groups=2)
    net.conv(32, groups=8)


def shuffled(net: Writer) -> None:
    """What needs the tensor in its own form, in the middle of the network."""
    channels = net.channels
    net.emit(relax.op.reshape(net.y, (1, channels, SIZE * SIZE)))
    net.emit(relax.op.permute_dims(net.y, (0, 2, 1)))
    net.emit(relax.op.reshape(relax.op.permute_dims(net.y, (0, 2, 1)), (1, channels, SIZE, SIZE)))


def plain(net: Writer) -> None:
    net.conv(20)


PARTS = (
    branches,
    uneven_branches,
    residual,
    scaled,
    excited,
    split,
    split_in_a_block,
    reciprocal,
    pooled,
    depthwise,
    in_groups,
    shuffled,
    plain,
)


def computed(module: IRModule, image: np.ndarray, target: tvm.target.Target) -> np.ndarray:
    machine = relax.VirtualMachine(tvm.compile(module, target), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(image)).numpy()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=3, max_size=4),
    channels=st.integers(1, 20),
    winograd=st.booleans(),
)
def test_it_computes_what_it_did(
    host: targets.TargetInfo, parts: list, channels: int, winograd: bool
) -> None:
    module = Writer(channels).network(lambda net: [part(net) for part in parts])
    image = np.random.default_rng(1).standard_normal((1, channels, SIZE, SIZE)).astype("float32")
    wanted = evaluate(module, [image])[0]
    got = computed(lower(module, host.target(), lambda _: winograd).module, image, host.target())
    assert np.abs(got - wanted).max() <= 2e-5 * np.abs(wanted).max()


def names(module: IRModule) -> Counter:
    """How often each operator or function is called."""
    calls = calls_of(module)
    found = (each.args[0].name_hint if each.op.name == "relax.call_tir" else each.op.name for each in calls)
    return Counter(name.rstrip("0123456789") for name in found)


@pytest.mark.parametrize(
    ("part", "rearranged"),
    [
        (branches, 1),
        (residual, 1),
        (scaled, 1),
        (excited, 1),
        (pooled, 1),
        (depthwise, 1),
        (split, 1),
        (uneven_branches, 2),
    ],
)
def test_tensors_stay_packed(host: targets.TargetInfo, part, rearranged: int) -> None:
    module = Writer(3).network(lambda net: [plain(net), part(net)])
    called = names(lower(module, host.target()).module)
    assert called["unpack"] == rearranged
    assert called["pack"] == 0


def test_groups_of_whole_blocks_are_dense_convolutions(host: targets.TargetInfo) -> None:
    module = Writer(3).network(in_groups)
    called = names(lower(module, host.target()).module)
    assert (called["packed_conv2d"], called["relax.nn.conv2d"]) == (3, 1)
    assert called["relax.concat"] == 1


def test_what_no_convolution_makes_stays_as_it_is(host: targets.TargetInfo) -> None:
    module = Writer(20).network(lambda net: [pooled(net), scaled(net), depthwise(net)])
    tvm.ir.assert_structural_equal(lower(module, host.target()).module, module)


def test_a_layer_with_a_choice_has_its_weights_in_both_forms(host: targets.TargetInfo) -> None:
    module = Writer(8).network(lambda net: [plain(net), residual(net), pooled(net), branches(net)])
    for takes in (False, True):
        lowered = lower(module, host.target(), lambda _, takes=takes: takes)
        assert len(lowered.weights) == 4
        assert names(lowered.module)["winograd_conv2d"] == (4 if takes else 0)
    mixed = lower(module, host.target(), {1}.__contains__)
    assert names(mixed.module)["winograd_conv2d"] == 1
