"""A convolution of a cropped image reads the image itself."""

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import IRModule

import targets
from pipeline.twin import evaluate
from tuning.lowering.network import calls_of, lower

SIZE = 9
Part = tuple[list[int], ...]


def network(part: Part, stride: int, padding: int) -> IRModule:
    """A convolution of a part of an image with an odd number of channels."""
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 3, SIZE, SIZE), "float32"))
    with builder.function("main", [image], attrs={"num_input": 1}):
        with builder.dataflow():
            crop = builder.emit(relax.op.strided_slice(image, *part))
            shape = (5, int(crop.ty.shape[1]), 3, 2)
            weight = relax.const(np.random.default_rng(0).standard_normal(shape).astype("float32"))
            sums = relax.op.nn.conv2d(crop, weight, strides=(stride,) * 2, padding=(padding,) * 4)
            result = builder.emit_output(builder.emit(sums))
        builder.emit_func_output(result)
    return builder.get()


def computed(module: IRModule, image: np.ndarray, host: targets.TargetInfo) -> np.ndarray:
    machine = relax.VirtualMachine(tvm.compile(module, host.target()), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(image)).numpy()


def crops(module: IRModule) -> int:
    return sum(call.op.name == "relax.strided_slice" for call in calls_of(module))


SPANS = st.tuples(st.integers(-2, 3), st.integers(-3, 2)).map(
    lambda span: (span[0], SIZE + 9 if span[1] == 0 else SIZE + span[1])
)
"""Where a part begins, counted from the end too, and where it ends, beyond the image too."""


@settings(max_examples=20, deadline=None)
@given(
    spans=st.lists(SPANS, min_size=1, max_size=2),
    from_the_end=st.booleans(),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
)
def test_it_computes_what_the_crop_did(
    host: targets.TargetInfo, spans: list, from_the_end: bool, stride: int, padding: int
) -> None:
    axes = [-1, -2] if from_the_end else [2, 3]
    begin, end = (list(each) for each in zip(*spans, strict=True))
    begin = [place if place >= 0 else place - SIZE + 2 for place in begin]
    module = network((axes[: len(spans)], begin, end), stride, padding)
    image = np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype("float32")
    wanted = evaluate(module, [image])[0]
    got = computed(lower(module, host.target()).module, image, host)
    assert np.abs(got - wanted).max() <= 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("part", "padding", "left"),
    [
        (([2, 3], [1, 2], [SIZE, SIZE]), 0, 0),
        (([3], [-4], [SIZE]), 0, 0),
        (([2], [1], [SIZE]), 1, 1),
        (([1], [0], [2]), 0, 1),
        (([2], [0], [SIZE], [2]), 0, 1),
    ],
)
def test_crops_are_not_made(host: targets.TargetInfo, part: tuple, padding: int, left: int) -> None:
    assert crops(lower(network(part, 1, padding), host.target()).module) == left
