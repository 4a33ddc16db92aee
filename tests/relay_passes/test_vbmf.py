import math

import numpy as np
import pytest

from relay_passes.vbmf import free_energy, noise_threshold, rank_under_noise


def _squares(matrix):
    return np.linalg.svd(matrix, compute_uv=False) ** 2


def _noisy(rows, columns, rank, noise, seed=0):
    """Orthonormal factors, all singular values 1, and noise of a known width."""
    generator = np.random.default_rng(seed)
    left = np.linalg.qr(generator.standard_normal((rows, rank)))[0]
    right = np.linalg.qr(generator.standard_normal((columns, rank)))[0]
    return left @ right.T + noise * generator.standard_normal((rows, columns))


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (100, 200), (64, 64)], ids=str)
@pytest.mark.parametrize("rank", [0, 1, 5, 16])
def test_the_rank_of_a_matrix_with_noise(shape, rank):
    matrix = _noisy(*shape, rank, noise=0.01)
    assert rank_under_noise(_squares(matrix), *shape) == rank


@pytest.mark.parametrize("seed", range(20))
def test_pure_noise_has_no_rank(seed):
    matrix = np.random.default_rng(seed).standard_normal((60, 300))
    assert rank_under_noise(_squares(matrix), 60, 300) == 0


@pytest.mark.parametrize("rank", [1, 7])
def test_rounding_is_taken_for_noise_where_there_is_no_other(rank):
    assert rank_under_noise(_squares(_noisy(40, 90, rank, noise=0)), 40, 90) == rank


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_does_not_matter(scale):
    matrix = _noisy(50, 120, 6, noise=0.02)
    assert rank_under_noise(_squares(scale * matrix), 50, 120) == 6


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (3, 1000)])
def test_matrices_too_small_to_tell_anything(shape):
    assert rank_under_noise(_squares(np.ones(shape)), *shape) <= min(shape)
    assert rank_under_noise(np.zeros(min(shape)), *shape) == 0


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.5, 1])
def test_the_threshold_beside_its_approximation(ratio):
    """The paper gives T as about 2.5129 times the root of the ratio, and 2.5129 where the ratio is 1."""
    t = 2.5129 * math.sqrt(ratio)
    assert noise_threshold(ratio) == pytest.approx(
        (1 + t) * (1 + ratio / t), rel=1e-4 if ratio == 1 else 0.06
    )
    assert noise_threshold(ratio) > (1 + math.sqrt(ratio)) ** 2


@pytest.mark.parametrize("ratio", [0.05, 0.4, 1])
def test_a_component_at_the_threshold_costs_as_much_as_none(ratio):
    """The free energies with and without it meet there: that is what the threshold is."""
    threshold = noise_threshold(ratio)
    just_below, just_above = threshold * (1 - 1e-9), threshold * (1 + 1e-9)
    below, above = (free_energy(np.array([x]), ratio, threshold) for x in (just_below, just_above))
    assert below == pytest.approx(above, abs=1e-6)


def test_the_rank_beside_a_fit_of_the_model_by_iteration():
    """Independent of the closed form: variational updates of the same model, started at the data."""
    for rank, noise in ((0, 0.3), (3, 0.05), (8, 0.02)):
        matrix = _noisy(20, 60, rank, noise, seed=rank)
        assert rank_under_noise(_squares(matrix), 20, 60) == _rank_by_iteration(matrix)


def _rank_by_iteration(matrix, steps=2000):
    """Mean-field updates, component by component; the factors of each are diagonal in the singular basis.

    The posteriors of a component are normal with means a, b along its singular vectors and variances p, q in
    every direction; v, w are the prior variances, learned as the mean squares, and s that of the noise.
    """
    rows, columns = matrix.shape
    g = np.linalg.svd(matrix, compute_uv=False)
    a, b = np.sqrt(g), np.sqrt(g)
    p, q, v, w = (np.full_like(g, value) for value in (1e-2, 1e-2, 1, 1))
    s = (g**2).sum() / matrix.size * 0.5
    for _ in range(steps):
        p = s / (b**2 + columns * q + s / v)
        a = p * g * b / s
        q = s / (a**2 + rows * p + s / w)
        b = q * g * a / s
        v, w = a**2 / rows + p, b**2 / columns + q
        error = g**2 - 2 * g * a * b + (a**2 + rows * p) * (b**2 + columns * q)
        s = error.sum() / matrix.size
    return int(np.count_nonzero(a * b > 1e-3 * g.max()))
