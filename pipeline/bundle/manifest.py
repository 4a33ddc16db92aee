"""What manifest.json holds."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, NonNegativeInt, PositiveFloat, StringConstraints, model_validator

from pipeline.report.model import FOR_TIMING_ONLY, Name, Record, Target, Tensor, Verification

SCHEMA_VERSION = 1

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Record):
    """One file of a bundle."""

    sha256: Digest
    bytes: NonNegativeInt


class Manifest(Record):
    """What a bundle holds and how to call it: `main(*inputs, *weights)`, each in the order given here.

    `tolerance` bounds the largest difference between the golden outputs and what the library computes.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Name
    created: AwareDatetime
    target: Target
    versions: dict[str, str]
    inputs: tuple[Tensor, ...] = Field(min_length=1)
    outputs: tuple[Tensor, ...] = Field(min_length=1)
    weights: tuple[Tensor, ...]
    preprocessing: None = None
    structure_only: bool
    notices: tuple[str, ...] = ()
    tuned_trials: NonNegativeInt
    records_applied: NonNegativeInt
    tolerance: PositiveFloat
    verification: tuple[Verification, ...] = ()
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _tells_of_untrained_layers(self) -> Self:
        if self.structure_only and FOR_TIMING_ONLY not in self.notices:
            raise ValueError(f"a structure_only bundle carries the notice: {FOR_TIMING_ONLY}")
        return self

    @model_validator(mode="after")
    def _is_verified(self) -> Self:
        failed = [check.what for check in self.verification if not check.passed]
        if failed:
            raise ValueError(f"verification failed, nothing is handed over: {', '.join(failed)}")
        return self
