"""What manifest.json holds."""

from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    StringConstraints,
)

from pipeline.data import Preprocessing
from pipeline.record import Name, Record
from pipeline.report.model import HandedOver, Samples, Target, Tensor

SCHEMA_VERSION = 1

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Record):
    """One file of a bundle."""

    sha256: Digest
    bytes: NonNegativeInt


class MeasuredAccuracy(Record):
    """A metric of the network in the bundle, before it was compiled, on the user's validation data."""

    metric: Name
    value: FiniteFloat
    data: Samples


class Manifest(HandedOver):
    """What a bundle holds and how to call it: `main(*inputs, *weights)`, each in the order given here.

    `tolerance` bounds the largest difference between the golden outputs and what the library computes.
    `int8_weights` names the weights that are stored as int8 numbers and scales.
    `preprocessing` is what was done to each sample before the network got it, if that is known; `accuracy`
    was measured with it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    created: AwareDatetime
    target: Target
    versions: dict[str, str]
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    weights: tuple[Tensor, ...]
    int8_weights: tuple[Name, ...] = ()
    preprocessing: Preprocessing | None = None
    accuracy: MeasuredAccuracy | None = None
    tuned_trials: NonNegativeInt
    records_applied: NonNegativeInt
    tolerance: PositiveFloat
    files: dict[FileName, FileEntry]
