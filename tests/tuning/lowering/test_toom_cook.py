"""The matrices compute short convolutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning.lowering.toom_cook import matrices
from tuning.lowering.winograd import POINTS, TAPS, tile_of


@settings(deadline=None)
@given(
    taps=st.integers(2, 4),
    points=st.lists(st.integers(-12, 12), min_size=3, max_size=6, unique=True),
    seed=st.integers(0, 1000),
)
def test_they_compute_a_convolution(taps: int, points: list[int], seed: int) -> None:
    outputs = len(points) + 2 - taps
    at = [each / 8 for each in points]
    found = matrices(taps, at)
    rng = np.random.default_rng(seed)
    values, taken = rng.standard_normal(outputs + taps - 1), rng.standard_normal(taps)
    got = found.output @ ((found.filter @ taken) * (found.input @ values))
    wanted = np.correlate(values, taken)
    size = np.abs(found.output).sum() * np.abs(found.filter).sum() * np.abs(found.input).sum()
    np.testing.assert_allclose(got, wanted, atol=1e-14 * size)


@pytest.mark.parametrize("taps", TAPS)
def test_what_is_applied_when_a_network_runs_is_exact_in_float32(taps: int) -> None:
    found = matrices(taps, POINTS)
    assert found.output.shape == (tile_of(taps), len(POINTS) + 1)
    for each in (found.input, found.output):
        assert np.array_equal(each, each.astype("float32"))


@pytest.mark.parametrize("taps", TAPS)
def test_rows_of_opposite_points_differ_in_the_signs_of_odd_columns(taps: int) -> None:
    found = matrices(taps, POINTS)
    signs = (-1.0) ** np.arange(len(POINTS) + 1)
    for positive in (1, 3):
        np.testing.assert_array_equal(found.input[positive + 1], found.input[positive] * signs)
