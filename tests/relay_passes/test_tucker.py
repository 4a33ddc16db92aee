import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from relay_passes.tucker import IN, OUT, decompose, squares


def _random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def _whole(factors):
    """The kernel that the three convolutions stand for."""
    core = factors.core
    if factors.into is not None:
        core = np.einsum("rqhw,qi->rihw", core, factors.into[:, :, 0, 0])
    if factors.out is not None:
        core = np.einsum("or,rihw->oihw", factors.out[:, :, 0, 0], core)
    return core


def _best_by_svd(weight, ranks, sweeps=200):
    """Higher-order orthogonal iteration by full singular value decompositions."""
    b = np.linalg.svd(np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1))[0][:, : ranks[0]]
    for _ in range(sweeps):
        seen = np.einsum("oihw,iq->oqhw", weight, b)
        a = np.linalg.svd(seen.reshape(weight.shape[0], -1), full_matrices=False)[0][:, : ranks[1]]
        seen = np.einsum("oihw,or->irhw", weight, a)
        b = np.linalg.svd(seen.reshape(weight.shape[1], -1), full_matrices=False)[0][:, : ranks[0]]
    return np.einsum("oihw,or,iq->rqhw", weight, a, b)


@pytest.mark.parametrize("axis", [OUT, IN])
@pytest.mark.parametrize("shape", [(9, 16, 3, 3), (40, 4, 1, 3), (4, 40, 3, 1)], ids=str)
def test_squares_are_those_of_the_unfoldings(axis, shape):
    weight = _random(*shape)
    unfolded = np.moveaxis(weight, axis, 0).reshape(shape[axis], -1)
    expected = np.linalg.svd(unfolded, compute_uv=False) ** 2
    np.testing.assert_allclose(squares(weight, axis), expected, atol=1e-9)


@pytest.mark.parametrize("ranks", [(6, 9), (6, 4), (3, 9), (3, 4)], ids=str)
def test_factors_of_a_kernel_that_has_these_ranks(ranks):
    weight = np.einsum("rqhw,or,iq->oihw", _random(4, 3, 3, 3), _random(9, 4), _random(6, 3))
    factors = decompose(weight, ranks)
    assert (factors.into is None, factors.out is None) == (ranks[0] == 6, ranks[1] == 9)
    assert factors.core.shape == (ranks[1], ranks[0], 3, 3)
    np.testing.assert_allclose(_whole(factors), weight, atol=1e-10)


def test_full_ranks_leave_the_kernel_as_it_is():
    weight = _random(9, 6, 3, 3).astype("float32")
    factors = decompose(weight, (6, 9))
    assert (factors.into, factors.out) == (None, None)
    np.testing.assert_array_equal(factors.core, weight)


def test_it_comes_near_the_best_approximation():
    weight = _random(24, 16, 3, 3)
    best = (_best_by_svd(weight, (7, 9)) ** 2).sum()
    assert (decompose(weight, (7, 9)).core ** 2).sum() > 0.98 * best


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_number_type_stays_and_the_result_is_the_same_each_time(dtype):
    weight = _random(12, 10, 3, 3).astype(dtype)
    first, second = decompose(weight, (4, 5)), decompose(weight, (4, 5))
    for name in ("into", "core", "out"):
        value = getattr(first, name)
        assert value.dtype == dtype
        assert value.flags.c_contiguous
        np.testing.assert_array_equal(value, getattr(second, name))


def test_a_kernel_of_zeros():
    assert not _whole(decompose(np.zeros((9, 8, 3, 3), "float32"), (2, 3))).any()


@st.composite
def _kernels(draw):
    shape = [draw(st.integers(1, limit)) for limit in (12, 12, 3, 3)]
    ranks = draw(st.integers(1, shape[1])), draw(st.integers(1, shape[0]))
    return _random(*shape, seed=draw(st.integers(0, 1000))), ranks


@settings(max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate])
@given(_kernels())
def test_the_error_is_between_the_energies_cut_off(kernel):
    """At least what either unfolding loses by itself, at most what both lose together."""
    weight, (rank_in, rank_out) = kernel
    factors = decompose(weight, (rank_in, rank_out))
    error = ((_whole(factors) - weight) ** 2).sum()
    lost = squares(weight, IN)[rank_in:].sum(), squares(weight, OUT)[rank_out:].sum()
    slack = 1e-9 * (weight**2).sum()
    assert max(lost) - slack <= error <= sum(lost) + slack
    if 0 not in (weight.shape[1] - rank_in, weight.shape[0] - rank_out):
        assert error == pytest.approx((weight**2).sum() - (factors.core**2).sum(), abs=slack)
