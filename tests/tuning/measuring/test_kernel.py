"""What a kernel is run on: arguments of its types, for which nothing goes out of bounds."""

import numpy as np
import pytest

from tuning.measuring.kernel import Numbers, random_arguments

TYPES = ["float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool"]


def of(dtype: str, numbers: Numbers = Numbers.REAL, seed: int = 0) -> np.ndarray:
    (values,) = random_arguments(((dtype, (64,)),), seed, numbers)
    return values


@pytest.mark.parametrize("dtype", TYPES)
def test_arguments_are_of_their_types_and_not_all_the_same(dtype: str) -> None:
    values = of(dtype)
    assert values.dtype == np.dtype(dtype)
    assert values.shape == (64,)
    assert len(set(values)) > 1


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_may_be_indices(dtype: str) -> None:
    assert set(of(dtype)) == {0, 1}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_positive_numbers_are_above_zero(dtype: str) -> None:
    assert of(dtype).min() < -0.5
    assert of(dtype, Numbers.POSITIVE).min() > 0
    assert of(dtype, Numbers.POSITIVE).max() <= 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_whole_numbers_are_three(dtype: str) -> None:
    assert set(of(dtype, Numbers.WHOLE)) == {-1, 0, 1}


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(of("float32", seed=1), of("float32", seed=1))
    assert (of("float32", seed=1) != of("float32", seed=2)).any()
