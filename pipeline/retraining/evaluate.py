"""The metric of a network on validation data."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.data import Loader, Metric
from pipeline.retraining.objective import Outputs
from pipeline.retraining.processes import Processes

Compute = Callable[..., Outputs]


def evaluate(
    network: Compute, loader: Loader, metric: Metric, processes: Processes, original: Compute | None = None
) -> float:
    """Measure a network on all samples of a loader, shared between the processes.

    Parameters
    ----------
    network : callable
        From inputs to outputs.
    loader : Loader
    metric : Metric
    processes : Processes
    original : callable, optional
        The original network, if the metric compares with it; by default the network itself.

    Returns
    -------
    float
        The mean of the metric over all samples that could be read.
    """
    total = torch.zeros(2, dtype=torch.float64)
    with torch.inference_mode():
        for batch in loader.in_order():
            outputs = network(*batch.inputs)
            reference = outputs if original is None else original(*batch.inputs)
            scores = metric.scores(outputs, batch.labels, reference)
            total += torch.tensor([float(scores.double().sum()), len(scores)], dtype=torch.float64)
    score, samples = processes.sum(total).tolist()
    return score / samples
