"""Training and validation data: opened, preprocessed, in reproducible batches; and metrics."""

from pipeline.data.facts import facts
from pipeline.data.loader import Loader
from pipeline.data.metrics import Metric, find_metric
from pipeline.data.mirrored import Mirrored
from pipeline.data.opening import Data, open_data
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.source import Batch, Source

__all__ = [
    "Batch",
    "Data",
    "Loader",
    "Metric",
    "Mirrored",
    "Preprocessing",
    "Source",
    "facts",
    "find_metric",
    "open_data",
]
