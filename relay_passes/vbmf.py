"""The rank of a matrix under noise, by empirical variational Bayesian matrix factorisation.

The model is Y = A B' + noise, L rows and M >= L columns, with normal priors on A and B whose widths are
learned too. Its global solution is known in closed form. With the singular values g, the ratio a = L / M and
x = g^2 / (M s) for the noise variance s, a component stays if its x exceeds

    X = (1 + T) (1 + a / T),    T the zero of f(T) + f(T / a),    f(z) = log(1 + z) / z - 1/2

and s is where the free energy is least: the sum over all components of

    x - log x + [x > X] (log(1 + t) + a log(1 + t / a) - t),    t = (b + sqrt(b^2 - 4 a)) / 2,  b = x - 1 - a

Source: Nakajima, Sugiyama, Babacan, Tomioka: Global analytic solution of fully-observed variational Bayesian
matrix factorization, JMLR 14 (2013).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GRID = 100
ZOOMS = 4
BISECTIONS = 60


def rank_under_noise(squares: np.ndarray, rows: int, columns: int) -> int:
    """How many singular values of a matrix are more than noise.

    Parameters
    ----------
    squares : numpy.ndarray
        All min(rows, columns) squared singular values, the largest first.
    rows, columns : int
        The shape of the matrix.

    Returns
    -------
    int
        0 if the matrix looks like noise alone. Without any noise, rounding is taken for it.
    """
    if squares[0] == 0:
        return 0
    small, large = sorted((rows, columns))
    ratio = small / large
    threshold = noise_threshold(ratio)
    squares = np.maximum(squares, squares[0] * small * np.finfo(np.float64).eps)
    low, high = _bounds(squares, large, threshold)
    noise = _least(lambda s: free_energy(squares / (large * s), ratio, threshold), low, high)
    return int(np.count_nonzero(squares > large * noise * threshold))


def noise_threshold(ratio: float) -> float:
    """The X of the module's docstring, by bisection: T lies between the zeros of f(T / a) and of f(T)."""
    low, high = 2.5 * ratio, 2.6
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _f(middle) + _f(middle / ratio) > 0:
            low = middle
        else:
            high = middle
    return (1 + low) * (1 + ratio / low)


def free_energy(x: np.ndarray, ratio: float, threshold: float) -> np.ndarray:
    """The free energy of components x, summed over the last axis, up to what no noise changes."""
    b = x - 1 - ratio
    t = np.where(x > threshold, (b + np.sqrt(np.maximum(b * b - 4 * ratio, 0))) / 2, 0)
    return (x - np.log(x) + np.log1p(t) + ratio * np.log1p(t / ratio) - t).sum(axis=-1)


def _f(z: float) -> float:
    return np.log1p(z) / z - 0.5


def _bounds(squares: np.ndarray, large: int, threshold: float) -> tuple[float, float]:
    """Between which variances of the noise the free energy is least.

    The noise is at most everything. All components but the first L / (1 + L / M), rounded up, less one, are
    noise, since no more can be told from it: it is no less than their mean, and none exceeds the threshold.
    """
    small = len(squares)
    told_apart = -(-small * large // (small + large)) - 1
    rest = squares[told_apart:]
    return max(rest.mean() / large, rest[0] / (large * threshold)), squares.mean() / large


def _least(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
    """Where a function of a column of numbers is least: the best of a grid, refined around it."""
    for _ in range(ZOOMS):
        grid = np.geomspace(low, high, GRID)
        best = int(function(grid[:, None]).argmin())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    return float(grid[best])
