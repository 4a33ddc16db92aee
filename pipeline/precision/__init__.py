"""Networks with float16 layers or int8 weights: which targets can, what is converted, and what it costs."""

from pipeline.precision.accuracy import Measured, measure_accuracy, measure_agreement
from pipeline.precision.conversion import DTYPES, FLOAT16, FLOAT32, INT8, Converted, Form, convert
from pipeline.precision.network import ConvertedNetwork, convert_network
from pipeline.precision.support import check_supported
from pipeline.precision.tolerance import tolerances
from pipeline.precision.validation import Validation, open_validation
from pipeline.precision.value_range import Kept, out_of_range

__all__ = [
    "DTYPES",
    "FLOAT16",
    "FLOAT32",
    "INT8",
    "Converted",
    "ConvertedNetwork",
    "Form",
    "Kept",
    "Measured",
    "Validation",
    "check_supported",
    "convert",
    "convert_network",
    "measure_accuracy",
    "measure_agreement",
    "open_validation",
    "out_of_range",
    "tolerances",
]
