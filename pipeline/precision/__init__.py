"""Networks with float16 layers: whether a target has the arithmetic, what is converted, and what it costs."""

from pipeline.precision.accuracy import Measured, measure_accuracy, measure_agreement
from pipeline.precision.conversion import DTYPES, FLOAT16, FLOAT32, Converted, convert
from pipeline.precision.support import check_supported
from pipeline.precision.tolerance import tolerances
from pipeline.precision.value_range import Kept, out_of_range

__all__ = [
    "DTYPES",
    "FLOAT16",
    "FLOAT32",
    "Converted",
    "Kept",
    "Measured",
    "check_supported",
    "convert",
    "measure_accuracy",
    "measure_agreement",
    "out_of_range",
    "tolerances",
]
