"""Depthwise convolutions of packed images are torch's, whatever is in the channels that fill blocks up."""

import re

import numpy as np
import pytest
import torch
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax

from tuning.lowering.packed.depthwise import convolved, fits, packed_weight


def call_of(shape: tuple[int, ...], weight: np.ndarray, **attributes: object) -> relax.Call:
    image = relax.Var("image", relax.TensorType(shape, "float32"))
    return relax.BlockBuilder().normalize(relax.op.nn.conv2d(image, relax.const(weight), **attributes))


def weights(channels: int, *kernel: int, inputs: int = 1) -> np.ndarray:
    return np.random.default_rng(channels).standard_normal((channels, inputs, *kernel)).astype("float32")


def in_torch(
    image: np.ndarray, weight: np.ndarray, padding: tuple[int, ...], **options: object
) -> np.ndarray:
    """Return the result in float64, with ReLU."""
    image, weight = (torch.from_numpy(each.astype("float64")) for each in (image, weight))
    top, left, bottom, right = padding
    padded = torch.nn.functional.pad(image, (left, right, top, bottom))
    return torch.relu(torch.nn.functional.conv2d(padded, weight, groups=weight.shape[0], **options)).numpy()


@st.composite
def layers(draw: st.DrawFn) -> dict:
    pair = st.tuples(st.integers(1, 2), st.integers(1, 2))
    return {
        "sizes": (draw(st.integers(2, 19)), draw(st.integers(7, 12)), draw(st.integers(7, 30))),
        "kernel": draw(st.tuples(*[st.sampled_from([1, 2, 3])] * 2)),
        "stride": draw(pair),
        "dilation": draw(pair),
        "padding": draw(st.tuples(*[st.integers(0, 2)] * 4)),
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=layers())
def test_they_are_torchs(packed, image, layer: dict) -> None:
    sizes, padding, options = layer["sizes"], layer["padding"], (layer["stride"], layer["dilation"])
    values, weight = image(*sizes), weights(sizes[0], *layer["kernel"])
    stride, dilation = options
    call = call_of(values.shape, weight, strides=stride, dilation=dilation, padding=padding, groups=sizes[0])
    assert fits(call)
    function = packed.function(
        packed.shape(*sizes),
        lambda builder, data: relax.op.nn.relu(builder.emit(convolved(builder, data, call, packed.block))),
    )
    wanted = in_torch(values, weight, padding, stride=stride, dilation=dilation)
    for got in packed.computed(function, packed.packed(values), packed_weight(weight, packed.block)):
        np.testing.assert_allclose(packed.unpacked(got, sizes[0]), wanted, rtol=1e-5, atol=1e-5)


def test_weights_of_channels_that_fill_up_are_zeros() -> None:
    weight = weights(5, 3, 2)
    found = packed_weight(weight, 4)
    assert found.shape == (2, 1, 3, 2, 4)
    np.testing.assert_array_equal(found[1, 0, ..., 0], weight[4, 0])
    assert not found[1, ..., 1:].any()


@pytest.mark.parametrize(
    ("channels", "filters", "groups"), [(8, 8, 1), (8, 16, 8), (8, 8, 4), (1, 1, 1)], ids=str
)
def test_others_do_not_fit(channels: int, filters: int, groups: int) -> None:
    weight = weights(filters, 3, 3, inputs=channels // groups)
    assert not fits(call_of((1, channels, 9, 9), weight, groups=groups))


@pytest.mark.parametrize("stride", [1, 2])
def test_code_for_a_phone_multiplies_vectors_only(packed_for_a_phone, stride: int) -> None:
    phone = packed_for_a_phone
    call = call_of((1, 32, 28, 28), weights(32, 3, 3), strides=stride, padding=1, groups=32)
    function = phone.function(
        phone.shape(32, 28, 28), lambda builder, data: convolved(builder, data, call, phone.block)
    )
    code = tvm.compile(phone.plain(function)[0], phone.target).mod.inspect_source("asm")
    assert len(re.findall(r"\tfmla\tv\d+\.4s", code)) >= 9 * 14
    assert "\tfmadd\t" not in code
