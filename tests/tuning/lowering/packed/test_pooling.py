"""Pools of packed images are those of Relax, whatever is in the channels that fill blocks up."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax

from tuning.lowering.packed.pooling import fits, pooled


def call_of(shape: tuple[int, ...], operator: str, attributes: dict) -> relax.Call:
    image = relax.Var("image", relax.TensorType(shape, "float32"))
    module = relax.op if operator == "mean" else relax.op.nn
    return relax.BlockBuilder().normalize(getattr(module, operator)(image, **attributes))


@st.composite
def windows(draw: st.DrawFn) -> dict:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, dilation = draw(pair), draw(st.sampled_from([(1, 1), (1, 1), (2, 1)]))
    sides = [draw(st.integers(0, taps // 2)) for taps in (*kernel, *kernel)]
    return {
        "pool_size": kernel,
        "strides": draw(pair),
        "padding": tuple(sides),
        "dilation": dilation,
        "ceil_mode": draw(st.booleans()),
        "count_include_pad": draw(st.booleans()),
    }


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operator=st.sampled_from(["max_pool2d", "avg_pool2d"]),
    attributes=windows(),
    sizes=st.tuples(st.integers(1, 19), st.integers(5, 9), st.integers(5, 20)),
)
def test_windows_are_those_of_relax(
    run, packed, image, operator: str, attributes: dict, sizes: tuple[int, int, int]
) -> None:
    values = image(*sizes)
    call = call_of(values.shape, operator, attributes)
    wanted = run(values.shape, lambda _, data: relax.Call(call.op, [data], call.attrs), values)
    function = packed.function(packed.shape(*sizes), lambda builder, data: pooled(builder, data, call))
    assert fits(call)
    for got in packed.computed(function, packed.packed(values)):
        np.testing.assert_allclose(packed.unpacked(got, sizes[0]), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [("mean", {"axis": [2, -1], "keepdims": True}), ("adaptive_avg_pool2d", {"output_size": (1, 1)})],
)
def test_the_mean_of_an_image_is_numpys(packed, image, operator: str, attributes: dict) -> None:
    values = image(11, 7, 9)
    call = call_of(values.shape, operator, attributes)
    function = packed.function(packed.shape(11, 7, 9), lambda builder, data: pooled(builder, data, call))
    wanted = values.astype("float64").mean(axis=(2, 3), keepdims=True)
    assert fits(call)
    for got in packed.computed(function, packed.packed(values)):
        np.testing.assert_allclose(packed.unpacked(got, 11), wanted, rtol=1e-6, atol=1e-6)


def test_a_block_of_one_is_the_usual_layout(run, image) -> None:
    values = image(3, 9, 9)
    call = call_of(values.shape, "max_pool2d", {"pool_size": (3, 3), "strides": (2, 2)})
    got = run((1, 3, 9, 9, 1), lambda builder, data: pooled(builder, data, call), values[..., None])
    wanted = torch.nn.functional.max_pool2d(torch.from_numpy(values), 3, 2).numpy()
    np.testing.assert_array_equal(got[..., 0], wanted)


@pytest.mark.parametrize(
    ("shape", "operator", "attributes"),
    [
        ((1, 8, 6, 6), "mean", {"axis": [2, 3]}),
        ((1, 8, 6, 6), "mean", {"axis": [1, 2], "keepdims": True}),
        ((1, 8, 6, 6), "mean", {"keepdims": True}),
        ((1, 8, 6, 6), "adaptive_avg_pool2d", {"output_size": (2, 2)}),
        ((1, 6, 6, 8), "max_pool2d", {"layout": "NHWC"}),
        ((1, 8, 6, 6), "relu", {}),
    ],
    ids=str,
)
def test_others_do_not_fit(shape: tuple[int, ...], operator: str, attributes: dict) -> None:
    assert not fits(call_of(shape, operator, attributes))
