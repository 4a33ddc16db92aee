"""Compare outputs with their reference.

The tolerance is relative to the largest value of the reference. A softmax's outputs are small, so an absolute
bound would accept anything; relative to the largest one, an error of its inputs shows in full. Outputs that
are all next to nothing are taken for `SMALLEST_SCALE`: a sigmoid computes them from numbers near 1 and rounds
those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.report.model import Verification

RELATIVE_TOLERANCE = 1e-4
SMALLEST_SCALE = 0.01


class NotVerified(RuntimeError):
    """What was made computes something else than its reference, so it is not handed over."""


def tolerance_for(reference: np.ndarray) -> float:
    """The largest difference allowed from a reference, element by element."""
    scale = float(np.max(np.abs(reference), initial=0.0))
    return RELATIVE_TOLERANCE * (max(scale, SMALLEST_SCALE) if scale else 1.0)


def verify(
    what: str,
    against: str,
    reference: Mapping[str, np.ndarray],
    outputs: Sequence[np.ndarray],
    tolerances: Mapping[str, float] | None = None,
) -> Verification:
    """Compare outputs with a reference and insist that they agree.

    Parameters
    ----------
    what, against : str
        What is compared with what, in words.
    reference : mapping of str to numpy.ndarray
        By the outputs' names, in order.
    outputs : sequence of numpy.ndarray
        In the same order.
    tolerances : mapping of str to float, optional
        The largest differences allowed, by the outputs' names; by default `tolerance_for` each.

    Returns
    -------
    Verification
        Of the output that comes closest to its tolerance.

    Raises
    ------
    NotVerified
        An output differs by more than the tolerance, has another shape, or is not finite.
    """
    allowed = tolerances or {name: tolerance_for(expected) for name, expected in reference.items()}
    checks = [
        _compared(what, against, name, expected, output, allowed[name])
        for (name, expected), output in zip(reference.items(), outputs, strict=True)
    ]
    return worst(checks)


def worst(checks: Iterable[Verification]) -> Verification:
    """The comparison that comes closest to its tolerance."""
    return max(checks, key=lambda check: check.max_abs_diff / check.tolerance)


def _compared(
    what: str, against: str, name: str, expected: np.ndarray, output: np.ndarray, tolerance: float
) -> Verification:
    if output.shape != expected.shape:
        raise NotVerified(f"{what}: output {name} has the shape {output.shape} instead of {expected.shape}")
    difference = float(np.max(np.abs(output.astype("float64") - expected), initial=0.0))
    if not difference <= tolerance:
        raise NotVerified(
            f"{what}: output {name} differs from {against} by {difference:.3g}, more than {tolerance:.3g}; "
            "it is not handed over"
        )
    return Verification(what=what, against=against, max_abs_diff=difference, tolerance=tolerance, passed=True)
