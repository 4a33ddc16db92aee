"""Normalisations are found in networks, and computed as torch does."""

import numpy as np
import pytest
import torch
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import relax

from relay_passes import inline_composites
from relay_passes.canonicalize.respell_lrn import lrn_function
from tuning.lowering.packed.normalization import Normalization, find, normalized

USUAL = {"size": 5, "alpha": 1e-1, "beta": 0.75, "bias": 1.0}


def found_in(function: relax.Function) -> list[Normalization]:
    values = relax.analysis.get_var2val(function)
    calls = [each for each in values.values() if isinstance(each, relax.Call)]
    return [each for each in (find(call, values) for call in calls) if each is not None]


def normalization(shape: tuple[int, ...], **numbers: float) -> Normalization:
    (found,) = found_in(lrn_function(relax.TensorType(shape, "float32"), **numbers))
    return found


def test_one_is_found_where_its_composite_was() -> None:
    builder = relax.BlockBuilder()
    image = relax.Var("image", relax.TensorType((1, 8, 4, 4), "float32"))
    composite = builder.add_func(lrn_function(image.ty, **USUAL), "lrn")
    with builder.function("main", [image]):
        with builder.dataflow():
            data = builder.emit(relax.op.nn.relu(image))
            result = builder.emit_output(builder.emit(relax.Call(composite, [data])))
        builder.emit_func_output(result)
    (found,) = found_in(inline_composites(builder.get())["main"])
    assert (found.size, found.beta, found.bias) == (5, 0.75, 1.0)
    assert found.alpha == pytest.approx(1e-1)
    assert isinstance(found.data, relax.Var)


def test_a_mean_over_rows_is_none() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 8, 4, 4), "float32"))
    with builder.function("main", [x]):
        square = builder.emit(relax.op.expand_dims(builder.emit(relax.op.multiply(x, x)), axis=[1]))
        pool = relax.op.nn.avg_pool3d(square, (1, 3, 1), padding=[0, 1, 0, 0, 1, 0], count_include_pad=True)
        mean = builder.emit(relax.op.squeeze(builder.emit(pool), axis=[1]))
        scaled = builder.emit(relax.op.multiply(mean, relax.const(0.1, "float32")))
        base = builder.emit(relax.op.add(scaled, relax.const(1.0, "float32")))
        power = builder.emit(relax.op.power(base, relax.const(0.5, "float32")))
        builder.emit_func_output(builder.emit(relax.op.divide(x, power)))
    assert found_in(builder.get()["main"]) == []


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 5), st.integers(1, 14)),
    numbers=st.fixed_dictionaries(
        {
            "size": st.sampled_from([1, 3, 5, 11, 19]),
            "alpha": st.sampled_from([1e-4, 0.5]),
            "beta": st.sampled_from([0.75, 0.75, 0.5]),
            "bias": st.sampled_from([1.0, 2.0]),
        }
    ),
)
def test_it_is_torchs(packed, image, sizes: tuple[int, int, int], numbers: dict) -> None:
    values = image(*sizes)
    found = normalization(values.shape, **numbers)
    function = packed.function(packed.shape(*sizes), lambda builder, data: normalized(builder, data, found))
    size, alpha, beta, bias = (numbers[each] for each in ("size", "alpha", "beta", "bias"))
    wanted = torch.nn.functional.local_response_norm(
        torch.from_numpy(values).double(), size, alpha, beta, bias
    ).numpy()
    for got in packed.computed(function, packed.packed(values)):
        np.testing.assert_allclose(packed.unpacked(got, sizes[0]), wanted, rtol=1e-5, atol=1e-6)


def test_code_for_a_phone_takes_square_roots_of_vectors_only(packed_for_a_phone) -> None:
    phone, found = packed_for_a_phone, normalization((1, 64, 28, 28), **USUAL)
    function = phone.function(phone.shape(64, 28, 28), lambda builder, data: normalized(builder, data, found))
    code = tvm.compile(phone.plain(function)[0], phone.target).mod.inspect_source("asm")
    assert "\tfsqrt\tv" in code
    assert "\tfsqrt\ts" not in code
