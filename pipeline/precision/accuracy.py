"""What float16 or int8 weights cost: a metric of the network before and after on the same data, in torch.

The float16 network's layers sum up in float32 there and round their results to float16. A device rounds
within its sums too; how far the library that is handed over is from torch is verified on its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import tvm

from pipeline.data import Loader, Metric, Source, find_metric
from pipeline.precision.value_range import Batch
from pipeline.retraining.evaluate import evaluate
from pipeline.retraining.processes import Processes
from pipeline.twin import Twin

BATCH_SIZE = 64


@dataclass(frozen=True)
class Measured:
    """A metric before and after.

    Attributes
    ----------
    metric : str
    samples : int
    before, after : float
        Of the float32 network, and of the converted one.
    """

    metric: str
    samples: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.metric} {self.before:.2f} before, {self.after:.2f} after ({self.samples} samples)"


def measure_accuracy(
    before: tvm.IRModule, after: tvm.IRModule, validation: Source, metric: str | Metric
) -> Measured:
    """Measure two networks on validation data.

    Parameters
    ----------
    before, after : tvm.IRModule
        In float32, and converted.
    validation : Source
    metric : str or Metric
        A name as for `pipeline.data.find_metric`.

    Raises
    ------
    UserError
        The data cannot be read, or does not fit the metric.
    """
    measure = find_metric(metric) if isinstance(metric, str) else metric
    first, second = Twin(before).eval(), Twin(after).eval()
    loader = Loader(validation, BATCH_SIZE, seed=0)
    original = None if measure.labels_needed else first
    values = [evaluate(each, loader, measure, Processes(), original) for each in (first, second)]
    return Measured(measure.name, len(validation) - len(validation.unreadable), *values)


def measure_agreement(before: tvm.IRModule, after: tvm.IRModule, batches: Iterable[Batch]) -> Measured:
    """Count for how many inputs the largest score stays the largest: all there is to say without labels.

    Parameters
    ----------
    before, after : tvm.IRModule
        In float32, and converted.
    batches : iterable of sequences of numpy.ndarray
        Inputs, in the order of `main`'s parameters.
    """
    measure = find_metric("agreement")
    first, second = Twin(before).eval(), Twin(after).eval()
    scores = []
    with torch.inference_mode():
        for batch in batches:
            tensors = [torch.from_numpy(np.array(each)) for each in batch]
            scores.append(measure.scores(second(*tensors), None, first(*tensors)))
    found = torch.cat(scores)
    return Measured(measure.name, len(found), 100.0, float(found.mean()))
