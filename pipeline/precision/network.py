"""A network in another form as a deployment takes it: the module, what it has to compute, and what it costs.

Layers whose numbers float16 cannot hold are looked for on the golden inputs, on the first samples of the
validation data if there are any, and else on random inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tvm

from pipeline.golden import random_inputs
from pipeline.network import Network
from pipeline.precision.accuracy import BATCH_SIZE, Measured, measure_accuracy, measure_agreement
from pipeline.precision.conversion import FLOAT16, Converted, Form, convert
from pipeline.precision.tolerance import tolerances
from pipeline.precision.validation import Validation
from pipeline.precision.value_range import Batch
from pipeline.twin import evaluate

_RANDOM = 32
_LOOKED_AT = 256


@dataclass(frozen=True)
class ConvertedNetwork:
    """A network with float16 layers, int8 weights, or both.

    Attributes
    ----------
    converted : Converted
    reference : dict of str to numpy.ndarray
        What it computes in torch for the golden inputs, by the outputs' names.
    tolerances : dict of str to float
        How far compiled code may be from that.
    measured : Measured
        What it lost.
    data : str or None
        The validation data; None if the accuracy was not measured, and random inputs were compared.
    """

    converted: Converted
    reference: dict[str, np.ndarray]
    tolerances: dict[str, float]
    measured: Measured
    data: str | None


def convert_network(
    module: tvm.IRModule,
    network: Network,
    validation: Validation | None = None,
    seed: int = 0,
    form: Form = Form(FLOAT16),  # noqa: B008
) -> ConvertedNetwork:
    """Convert the original or the merged module of a network.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical, in float32.
    network : Network
        Where the inputs' names and golden values come from.
    validation : Validation, optional
        What to measure the accuracy on. Without, it is counted for how many random inputs the largest output
        stays the largest.
    seed : int
        Of the random inputs.
    form : Form

    Raises
    ------
    UserError
        The data cannot be read, or does not fit the metric.
    """
    golden = list(network.golden.inputs.values())
    samples = list(_random(network, seed) if validation is None else _first_of(validation))
    converted = convert(module, [golden, *samples], form)
    outputs = evaluate(converted.module, golden)
    reference = dict(zip(network.golden.outputs, outputs, strict=True))
    return ConvertedNetwork(
        converted,
        reference,
        tolerances(converted.module, golden, reference),
        measure_agreement(module, converted.module, samples)
        if validation is None
        else measure_accuracy(module, converted.module, validation.source, validation.metric),
        None if validation is None else validation.source.name,
    )


def _random(network: Network, seed: int) -> Iterator[Batch]:
    for each in range(_RANDOM):
        yield list(random_inputs(network.inputs, seed + 1 + each).values())


def _first_of(validation: Validation) -> Iterator[Sequence[np.ndarray]]:
    """The first samples of the data, in batches; those that cannot be read are left out."""
    numbers = range(min(len(validation.source), _LOOKED_AT))
    for first in range(0, len(numbers), BATCH_SIZE):
        batch = validation.source.fetch(list(numbers[first : first + BATCH_SIZE]), None)
        if len(batch):
            yield [each.numpy() for each in batch.inputs]
