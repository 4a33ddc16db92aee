"""The matrices of short convolutions with few multiplications, by Toom and Cook.

F(m, r) gives m outputs of a filter with r taps from m + r - 1 inputs and as many multiplications:

    y = output (filter g * input d)

where the product is elementwise. Polynomials are evaluated at m + r - 2 points and at infinity, multiplied
there, and interpolated. In two dimensions each matrix is applied from both sides (Lavin and Gray, Fast
Algorithms for Convolutional Neural Networks, CVPR 2016).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Matrices:
    """The three matrices of F(m, r), in float64.

    Attributes
    ----------
    output : numpy.ndarray
        (m, m + r - 1)
    filter : numpy.ndarray
        (m + r - 1, r)
    input : numpy.ndarray
        (m + r - 1, m + r - 1)
    """

    output: np.ndarray
    filter: np.ndarray
    input: np.ndarray


def matrices(taps: int, points: Sequence[float]) -> Matrices:
    """Return the matrices of F(m, ``taps``) with m + taps - 2 points.

    The divisions of the interpolation are put into the filter's matrix, which is applied once, when a network
    is built. Where the points come in pairs of opposite sign, so do rows: they differ in the signs of their
    odd columns only.

    Parameters
    ----------
    taps : int
        Of the filter.
    points : sequence of float
        All different; infinity comes in addition.
    """
    at = np.asarray(points, "float64")
    outputs, inputs = len(at) + 2 - taps, len(at) + 1
    others = [np.delete(at, place) for place in range(len(at))]
    divisors = [np.prod(point - rest) for point, rest in zip(at, others, strict=True)]
    interpolated = np.zeros((inputs, inputs))
    interpolated[:-1, :-1] = [np.poly(rest)[::-1] for rest in others]
    interpolated[-1] = np.poly(at)[::-1]
    return Matrices(
        output=_evaluated(at, outputs).T,
        filter=_evaluated(at, taps) / np.append(divisors, 1.0)[:, None],
        input=interpolated,
    )


def _evaluated(points: np.ndarray, terms: int) -> np.ndarray:
    """Return what takes a polynomial's coefficients to its values at the points and at infinity."""
    infinity = np.eye(terms)[-1:]
    return np.concatenate([points[:, None] ** np.arange(terms), infinity])
