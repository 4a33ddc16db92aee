"""Tucker-2 decomposition of a convolution's kernel.

With orthonormal A (O, R_out) and B (I, R_in), the kernel W (O, I, KH, KW) becomes

    W[o, i]  ~  sum over r, q of  A[o, r] C[r, q] B[i, q],        C = A' W B  (R_out, R_in, KH, KW)

so the convolution is a 1x1 one by B', one by the core C, and a 1x1 one by A. What is lost is the energy
(the sum of squares) that W has beyond C. A starts as the leading left singular vectors of W's unfolding by
outputs, B as those of A' W by inputs. Then each in turn takes a step of orthogonal iteration towards the
leading vectors of W seen through the other one; no step loses energy. Where a rank equals the channels, that
factor is the identity and is left away.

Sources: De Lathauwer, De Moor, Vandewalle: On the best rank-1 and rank-(R1, ..., RN) approximation of
higher-order tensors, SIAM J. Matrix Anal. Appl. 21 (2000). Kim, Park, Yoo, Choi, Yang, Shin: Compression of
deep convolutional neural networks for fast and low power mobile applications, ICLR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OUT, IN = 0, 1
SWEEPS = 4

Ranks = tuple[int, int]
"""R_in and R_out. A rank that equals the channels leaves them as they are."""


@dataclass(frozen=True)
class Factors:
    """The kernels of the three convolutions; None for a 1x1 one that is left away.

    `into` is (R_in, I, 1, 1), `core` (R_out, R_in, KH, KW), `out` (O, R_out, 1, 1).
    """

    into: np.ndarray | None
    core: np.ndarray
    out: np.ndarray | None


def squares(weight: np.ndarray, axis: int) -> np.ndarray:
    """The squared singular values of a kernel's unfolding along an axis, the largest first.

    Parameters
    ----------
    weight : numpy.ndarray
        (O, I, KH, KW).
    axis : int
        `OUT` or `IN`.

    Returns
    -------
    numpy.ndarray
        (min(channels, all else),) in double precision.
    """
    unfolded = _unfold(weight.astype(np.float64), axis)
    if unfolded.shape[0] > unfolded.shape[1]:
        unfolded = unfolded.T
    return np.maximum(np.linalg.eigvalsh(unfolded @ unfolded.T)[::-1], 0)


def decompose(weight: np.ndarray, ranks: Ranks) -> Factors:
    """The factors of a kernel.

    Parameters
    ----------
    weight : numpy.ndarray
        (O, I, KH, KW).
    ranks : tuple of int
        R_in, from 1 to I, and R_out, from 1 to O.

    Returns
    -------
    Factors
        Computed in double precision, given in the number type of the kernel.
    """
    whole = weight.astype(np.float64)
    outputs, inputs = weight.shape[:2]
    rank_in, rank_out = ranks
    a = _leading(whole, OUT, rank_out) if rank_out < outputs else None
    b = _leading(_project(whole, a, OUT), IN, rank_in) if rank_in < inputs else None
    if a is not None and b is not None:
        for _ in range(SWEEPS):
            a = _step(_project(whole, b, IN), OUT, a)
            b = _step(_project(whole, a, OUT), IN, b)
    core = _project(_project(whole, a, OUT), b, IN)
    return Factors(
        None if b is None else b.T.astype(weight.dtype, order="C")[:, :, None, None],
        core.astype(weight.dtype, order="C"),
        None if a is None else a.astype(weight.dtype, order="C")[:, :, None, None],
    )


def _unfold(tensor: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)


def _project(tensor: np.ndarray, factor: np.ndarray | None, axis: int) -> np.ndarray:
    """A tensor whose `axis` is seen through the columns of a factor, or as it is without one."""
    if factor is None:
        return tensor
    return np.moveaxis(np.tensordot(factor, tensor, (0, axis)), 0, axis)


def _leading(tensor: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """The leading left singular vectors of an unfolding, (channels, rank), by its Gram matrix."""
    unfolded = _unfold(tensor, axis)
    return np.linalg.eigh(unfolded @ unfolded.T)[1][:, : -rank - 1 : -1]


def _step(tensor: np.ndarray, axis: int, factor: np.ndarray) -> np.ndarray:
    """A step of orthogonal iteration from a factor towards the leading vectors of an unfolding."""
    unfolded = _unfold(tensor, axis)
    return np.linalg.qr(unfolded @ (unfolded.T @ factor))[0]
