import numpy as np
import pytest

from pipeline.verification import RELATIVE_TOLERANCE, NotVerified, tolerance_for, verify

REFERENCE = {"small": np.array([[0.001, 0.0005]], "float32"), "large": np.array([[100.0, -200.0]], "float32")}


def verified(small: np.ndarray, large: np.ndarray):
    return verify("a", "b", REFERENCE, [small, large])


def test_the_tolerance_follows_the_largest_value():
    assert tolerance_for(REFERENCE["large"]) == pytest.approx(200 * RELATIVE_TOLERANCE)
    assert tolerance_for(np.zeros(3)) == RELATIVE_TOLERANCE


def test_the_worst_output_is_told():
    check = verified(REFERENCE["small"] + 5e-8, REFERENCE["large"] + 1e-4)
    assert check.max_abs_diff == pytest.approx(5e-8, rel=0.05)
    assert check.passed


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (REFERENCE["small"] * 1.001, REFERENCE["large"]),
        (REFERENCE["small"], REFERENCE["large"] + 1),
        (REFERENCE["small"] * np.nan, REFERENCE["large"]),
        (REFERENCE["small"], REFERENCE["large"] * np.inf),
        (REFERENCE["small"].ravel(), REFERENCE["large"]),
    ],
    ids=["a softmax off by a thousandth", "off by one", "not a number", "infinite", "shape"],
)
def test_what_differs_is_not_handed_over(small: np.ndarray, large: np.ndarray):
    with pytest.raises(NotVerified):
        verified(small, large)
