"""Winograd's convolution of packed tensors computes what torch does, within the bound kernels are held to."""

import numpy as np
import pytest
import torch
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.ir import IRModule

import targets
from tuning.lowering.network import calls_of
from tuning.lowering.winograd import TAPS, convolved, fits
from tuning.measuring.compare import allowed
from tuning.measuring.kernel import Signature
from tuning.prepare import prepare

UNIT_ROUNDOFF = 2.0**-24
BLOCKS = [(1, 4), (8, 8), (4, 8), (16, 4)]


def computed(module: IRModule, image: np.ndarray, target: tvm.target.Target) -> np.ndarray:
    executable = relax.build(prepare(module, target), target)
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](tvm.runtime.tensor(image)).numpy()


def in_winograds_way(case, target: tvm.target.Target, blocks: tuple[int, int] = (8, 8)) -> np.ndarray:
    image = case.packed(case.values()[0], blocks[0])
    return case.unpacked(computed(case.packed_module(convolved, blocks), image, target), case.outputs)


def bound(case) -> float:
    """What a schedule of the direct convolution may be off, relative to the largest output."""
    return allowed(Signature((), (), case.kernel**2 * case.inputs, UNIT_ROUNDOFF))


@st.composite
def convolutions(draw: st.DrawFn) -> dict:
    return {
        "inputs": draw(st.integers(1, 12)),
        "outputs": draw(st.integers(1, 12)),
        "height": draw(st.integers(5, 14)),
        "width": draw(st.integers(5, 14)),
        "kernel": draw(st.sampled_from(TAPS)),
        "padding": draw(st.tuples(*[st.integers(0, 2)] * 4)),
        "batch": draw(st.sampled_from([1, 2])),
        "relu": draw(st.booleans()),
    }


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=convolutions(), blocks=st.sampled_from(BLOCKS))
def test_it_computes_what_torch_does(
    layer, host: targets.TargetInfo, sizes: dict, blocks: tuple[int, int]
) -> None:
    case = layer(**sizes)
    wanted = case.in_torch(*case.values())
    got = in_winograds_way(case, host.target(), blocks)
    assert np.abs(got - wanted).max() <= bound(case) * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("taps", TAPS)
def test_its_error_on_images_is_at_most_four_times_that_of_the_direct_convolution(
    layer, host: targets.TargetInfo, taps: int
) -> None:
    case = layer(inputs=96, outputs=24, height=30, width=30, kernel=taps, relu=False)
    image, weight, bias = case.values()
    image = np.maximum(image + smooth(image.shape), 0)
    wanted = case.in_torch(image, weight, bias)
    direct = computed(case.module(weight, bias), image, host.target())
    winograd = case.unpacked(
        computed(case.packed_module(convolved, (8, 8)), case.packed(image, 8), host.target()), case.outputs
    )
    errors = [np.sqrt(np.mean((each - wanted) ** 2)) for each in (direct, winograd)]
    assert errors[1] < 4 * errors[0]


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """Return noise whose neighbours are alike, as in what layers make of images."""
    coarse = torch.randn(shape[0], shape[1], 4, 4, generator=torch.Generator().manual_seed(0))
    return 3 * torch.nn.functional.interpolate(coarse, shape[2:], mode="bilinear").numpy()


def test_bias_and_relu_are_part_of_its_function(layer, host: targets.TargetInfo) -> None:
    case = layer()
    module = prepare(case.packed_module(convolved, (8, 8)), host.target())
    functions = [each for _, each in module.functions_items() if isinstance(each, tvm.tirx.PrimFunc)]
    assert len(functions) == 1


@pytest.mark.parametrize(
    "sizes",
    [
        {"kernel": 7},
        {"kernel": 1},
        {"stride": 2},
        {"dilation": 2},
        {"groups": 2},
        {"dtype": "float16"},
        {"height": 3, "width": 3, "padding": (0, 0, 0, 0)},
        {"height": 2, "width": 2},
    ],
    ids=str,
)
def test_other_layers_stay_as_they_are(layer, sizes: dict) -> None:
    case = layer(**sizes)
    assert not any(map(fits, calls_of(case.module(*case.values()[1:]))))


def test_a_layer_whose_weights_are_an_input_stays_as_it_is() -> None:
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 4, 12, 12), "float32"))
    weight = relax.Var("weight", relax.TensorType((4, 4, 3, 3), "float32"))
    with builder.function("main", [image, weight]):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(relax.op.nn.conv2d(image, weight)))
        builder.emit_func_output(result)
    assert not any(map(fits, calls_of(builder.get())))
