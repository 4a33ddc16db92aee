"""Networks with float16 layers: whether a target has the arithmetic, what is converted, and what it costs."""

from pipeline.precision.accuracy import Measured, measure_accuracy, measure_agreement
from pipeline.precision.conversion import DTYPES, FLOAT16, FLOAT32, Converted, convert
from pipeline.precision.network import AGAINST, Float16Network, to_float16_network
from pipeline.precision.support import check_supported
from pipeline.precision.tolerance import tolerances
from pipeline.precision.validation import Validation, open_validation
from pipeline.precision.value_range import Kept, out_of_range

__all__ = [
    "AGAINST",
    "DTYPES",
    "FLOAT16",
    "FLOAT32",
    "Converted",
    "Float16Network",
    "Kept",
    "Measured",
    "Validation",
    "check_supported",
    "convert",
    "measure_accuracy",
    "measure_agreement",
    "open_validation",
    "out_of_range",
    "to_float16_network",
    "tolerances",
]
