"""Comparing kernels: wrong numbers, unwritten elements and infinities are found; rounding is let pass."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.script import tirx as T

import targets
import tuning
from tuning.measuring.compare import Comparer, Reference, allowed, compare, judge, usual_numbers
from tuning.measuring.kernel import Numbers, Signature, random_arguments
from tuning.records.verdicts import Judgement, Verdict

ROUNDOFF = 2.0**-24
SIZE = 4096
ELEMENTWISE = Signature((("float32", (SIZE,)), ("float32", (SIZE,))), (1,), 0, ROUNDOFF)

Build = Callable[[tvm.tirx.PrimFunc], Path]


@T.prim_func(s_tir=True)
def doubling(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(SIZE):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, i)
            doubled[v_i] = values[v_i] * T.float32(2)


@T.prim_func(s_tir=True)
def doubling_backwards(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in T.parallel(SIZE):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, SIZE - 1 - i)
            doubled[v_i] = values[v_i] + values[v_i]


@T.prim_func(s_tir=True)
def doubling_all_but_one(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(SIZE - 1):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, i)
            doubled[v_i] = values[v_i] * T.float32(2)


@T.prim_func(s_tir=True)
def keeping_what_is_larger(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(SIZE):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, i)
            doubled[v_i] = T.max(doubled[v_i], values[v_i] * T.float32(2))


@T.prim_func(s_tir=True)
def doubling_almost(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(SIZE):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, i)
            doubled[v_i] = values[v_i] * T.float32(2.0001)


@T.prim_func(s_tir=True)
def logarithms(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(SIZE):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, i)
            doubled[v_i] = T.log(values[v_i])


@T.prim_func(s_tir=True)
def roots(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i in range(SIZE):
        with T.sblock("doubled"):
            v_i = T.axis.spatial(SIZE, i)
            doubled[v_i] = T.sqrt(values[v_i])


@T.prim_func(s_tir=True)
def aborting(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "abort"))


@T.prim_func(s_tir=True)
def sleeping(values: T.Buffer((SIZE,), "float32"), doubled: T.Buffer((SIZE,), "float32")):
    T.func_attr({"global_symbol": "main"})
    T.evaluate(T.call_extern("int32", "sleep", 600))


@pytest.fixture
def build(tmp_path: Path, host: targets.TargetInfo) -> Build:
    def built(function: tvm.tirx.PrimFunc) -> Path:
        path = tmp_path / f"größer {len(list(tmp_path.iterdir()))}.so"
        tvm.tirx.build(tvm.IRModule({"main": function}), target=host.target()).export_library(str(path))
        return path

    return built


@pytest.fixture(scope="module")
def comparer(session: tuning.LocalSession) -> Iterator[Comparer]:
    with Comparer(session.rpc_config, seconds=60) as entered:
        yield entered


def test_the_same_numbers_in_another_order_are_right(comparer: Comparer, build: Build) -> None:
    reference = comparer.reference(build(doubling), ELEMENTWISE)
    verdict = comparer.compare(build(doubling_backwards), reference)
    assert (verdict.judgement, verdict.difference) == (Judgement.RIGHT, 0.0)


def test_the_reference_is_what_numpy_computes(comparer: Comparer, build: Build) -> None:
    reference = comparer.reference(build(doubling), ELEMENTWISE, seed=3)
    values, _ = random_arguments(ELEMENTWISE.arguments, 3, Numbers.REAL)
    np.testing.assert_array_equal(reference.outputs[0], 2 * values)
    assert -1 <= values.min() < -0.9 < 0.9 < values.max() <= 1


@pytest.mark.parametrize("wrong", [doubling_almost, doubling_all_but_one, keeping_what_is_larger])
def test_a_wrong_kernel_is_found_and_its_difference_told(
    comparer: Comparer, build: Build, wrong: tvm.tirx.PrimFunc
) -> None:
    verdict = comparer.compare(build(wrong), comparer.reference(build(doubling), ELEMENTWISE))
    assert verdict.judgement is Judgement.WRONG
    assert verdict.difference > verdict.tolerance
    if wrong is doubling_almost:
        assert verdict.difference == pytest.approx(5e-5, rel=0.05)


def test_what_is_not_finite_is_wrong(comparer: Comparer, build: Build) -> None:
    verdict = comparer.compare(build(logarithms), comparer.reference(build(doubling), ELEMENTWISE))
    assert (verdict.judgement, verdict.difference) == (Judgement.WRONG, None)
    assert "not finite" in verdict.detail


def test_roots_are_compared_on_positive_numbers(comparer: Comparer, build: Build) -> None:
    reference = comparer.reference(build(roots), ELEMENTWISE)
    assert reference.numbers is Numbers.POSITIVE
    assert np.isfinite(reference.outputs[0]).all()
    assert comparer.compare(build(roots), reference).judgement is Judgement.RIGHT
    assert comparer.compare(build(doubling), reference).judgement is Judgement.WRONG


def test_a_kernel_that_crashes_is_wrong_and_the_next_is_compared(comparer: Comparer, build: Build) -> None:
    reference = comparer.reference(build(doubling), ELEMENTWISE)
    verdict = comparer.compare(build(aborting), reference)
    assert verdict.judgement is Judgement.WRONG
    assert verdict.detail == "the tuned function crashed on the device: ended by SIGABRT"
    assert comparer.compare(build(doubling), reference).judgement is Judgement.RIGHT


def test_an_untuned_kernel_that_takes_too_long_is_no_reference(
    session: tuning.LocalSession, build: Build
) -> None:
    verdict = compare(session.rpc_config, build(doubling), build(sleeping), ELEMENTWISE, seconds=2)
    assert verdict == Verdict(Judgement.NOT_COMPARED, detail="the untuned function took longer than 2 s")


def test_a_device_that_is_gone_gives_no_verdict(session: tuning.LocalSession, build: Build) -> None:
    config = dataclasses.replace(session.rpc_config, key="gone")
    with (
        Comparer(config, return_seconds=0.5) as comparer,
        pytest.raises(tuning.TuningError, match="no device serves the key 'gone'"),
    ):
        comparer.reference(build(doubling), ELEMENTWISE)


def products(terms: int, dtype: str, seed: int) -> tuple[Signature, np.ndarray, np.ndarray]:
    """A matrix product as two kernels compute it: summed up front to back, and in eight parts."""
    generator = np.random.default_rng(seed)
    a = generator.uniform(-1, 1, (24, terms)).astype(dtype)
    b = generator.uniform(-1, 1, (terms, 24)).astype(dtype)
    each = (a.T[:, :, None] * b[:, None, :]).astype(dtype)
    whole = np.add.accumulate(each, axis=0, dtype=dtype)[-1]
    parts = [
        np.add.accumulate(part, axis=0, dtype=dtype)[-1] for part in np.array_split(each, 8) if len(part)
    ]
    joined = np.add.accumulate(np.stack(parts), axis=0, dtype=dtype)[-1]
    roundoff = float(np.finfo(dtype).eps) / 2
    return Signature(((dtype, (24, 24)),), (0,), terms, roundoff), whole, joined


@settings(deadline=None, max_examples=30)
@given(terms=st.integers(1, 5000), dtype=st.sampled_from(["float16", "float32", "float64"]))
def test_rounding_is_let_pass(terms: int, dtype: str) -> None:
    signature, whole, joined = products(terms, dtype, seed=terms)
    verdict = judge([joined], Reference(signature, 0, Numbers.REAL, (whole,)))
    assert verdict.judgement is Judgement.RIGHT
    most = allowed(signature)
    is_capped = most == allowed(dataclasses.replace(signature, terms=4 * terms + 100))
    assert verdict.difference < most / (2 if is_capped else 4)


@settings(deadline=None, max_examples=30)
@given(terms=st.integers(1, 5000), dtype=st.sampled_from(["float32", "float64"]))
def test_a_missing_product_is_found(terms: int, dtype: str) -> None:
    signature, whole, joined = products(terms, dtype, seed=terms)
    joined[3, 3] -= np.asarray(0.25, dtype)
    verdict = judge([joined], Reference(signature, 0, Numbers.REAL, (whole,)))
    assert verdict.judgement is Judgement.WRONG
    assert verdict.difference > 10 * allowed(signature)


def half_products(terms: int, seed: int) -> tuple[Signature, np.ndarray, np.ndarray, np.ndarray]:
    """The same in float16 as kernels are compared in it, and the last product of each sum."""
    arguments = (("float16", (24, terms)), ("float16", (terms, 24)), ("float16", (24, 24)))
    signature = Signature(arguments, (2,), terms, 2.0**-11)
    a, b, _ = random_arguments(arguments, seed, usual_numbers(signature))
    each = a.T[:, :, None] * b[:, None, :]
    whole = np.add.accumulate(each, axis=0, dtype="float16")[-1]
    parts = [np.add.accumulate(part, axis=0, dtype="float16")[-1] for part in np.array_split(each, 8)]
    joined = np.add.accumulate(np.stack(parts), axis=0, dtype="float16")[-1]
    return signature, whole, joined, each[-1]


@settings(deadline=None, max_examples=20)
@given(terms=st.integers(8, 10_000))
def test_float16_sums_are_equal_in_any_order(terms: int) -> None:
    signature, whole, joined, _ = half_products(terms, seed=terms)
    verdict = judge([joined], Reference(signature, 0, Numbers.WHOLE, (whole,)))
    assert (verdict.judgement, verdict.difference) == (Judgement.RIGHT, 0.0)


@settings(deadline=None, max_examples=20)
@given(terms=st.integers(8, 10_000))
def test_a_product_missing_in_a_float16_sum_is_found(terms: int) -> None:
    signature, whole, joined, last = half_products(terms, seed=terms)
    verdict = judge([joined - last], Reference(signature, 0, Numbers.WHOLE, (whole,)))
    assert verdict.judgement is Judgement.WRONG
    one = joined.copy()
    one[3, 3] += 1
    assert judge([one], Reference(signature, 0, Numbers.WHOLE, (whole,))).judgement is Judgement.WRONG


def test_a_few_roundings_behind_a_float16_sum_are_let_pass() -> None:
    signature, whole, _, _ = half_products(576, seed=0)
    share = np.float16(1) / np.float16(9)
    expected, given = whole / np.float16(9), whole * share
    assert (expected != given).any()
    assert judge([given], Reference(signature, 0, Numbers.WHOLE, (expected,))).judgement is Judgement.RIGHT


@pytest.mark.parametrize(("terms", "roundoff"), [(0, 2.0**-11), (4608, ROUNDOFF)])
def test_whole_numbers_are_for_float16_sums_alone(terms: int, roundoff: float) -> None:
    assert usual_numbers(Signature((), (), terms, roundoff)) is Numbers.REAL


def reference_of(expected: np.ndarray, roundoff: float = ROUNDOFF) -> Reference:
    signature = Signature(((str(expected.dtype), expected.shape),), (0,), 0, roundoff)
    return Reference(signature, 0, Numbers.REAL, (expected,))


@pytest.mark.parametrize(
    ("expected", "given", "judgement"),
    [
        ([1.0, np.nan], [1.0, np.nan], Judgement.RIGHT),
        ([1.0, np.inf], [1.0, np.inf], Judgement.RIGHT),
        ([1.0, np.inf], [1.0, -np.inf], Judgement.WRONG),
        ([1.0, np.nan], [1.0, 2.0], Judgement.WRONG),
        ([1.0, 2.0], [1.0, np.nan], Judgement.WRONG),
        ([1.0, 2.0], [1.0, np.inf], Judgement.WRONG),
        ([0.0, 0.0], [0.0, 0.0], Judgement.RIGHT),
        ([0.0, 0.0], [0.0, 0.1], Judgement.WRONG),
        ([1e30, 1.0], [1e30, 2.0], Judgement.RIGHT),
        ([np.nan, np.nan], [np.nan, np.nan], Judgement.NOT_COMPARED),
    ],
)
def test_judging_what_is_not_finite_and_what_is_nothing(
    expected: list[float], given: list[float], judgement: Judgement
) -> None:
    verdict = judge([np.asarray(given, "float32")], reference_of(np.asarray(expected, "float32")))
    assert verdict.judgement is judgement


def test_integers_have_to_be_equal() -> None:
    expected = np.asarray([1000, -7], "int32")
    assert judge([expected.copy()], reference_of(expected, 0.0)).judgement is Judgement.RIGHT
    assert judge([expected + 1], reference_of(expected, 0.0)).judgement is Judgement.WRONG
