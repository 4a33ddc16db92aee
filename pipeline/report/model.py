"""What report.json holds: one frozen class for each idea.

The classes refuse a report that claims more than was measured: a speed-up from an emulated device, reborn
layers that were never trained without the notice that says so, a result whose verification failed.
"""

from typing import Generic, Literal, Self, TypeVar

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.record import Name, Record

SCHEMA_VERSION = 1

FOR_TIMING_ONLY = "reborn layers not trained: for timing only"
ACCURACY_NOT_MEASURED = "accuracy was not measured"


Facts = TypeVar("Facts")


class Compared(Record, Generic[Facts]):
    """The same facts about the original and the merged network."""

    original: Facts
    merged: Facts


class Tensor(Record):
    """An input or output of a network."""

    name: Name
    shape: tuple[NonNegativeInt, ...]
    dtype: str


class Model(Record):
    """The network as the user gave it; `source_digest` is `sha256:` and the digest of its file or weights."""

    name: Name
    framework: str
    source_digest: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class GpuNeeds(Record):
    """What a GPU has to allow a kernel: work items of a work group, and bytes of local memory for it.

    `kind` is its family, a part of the names of its devices; empty if every device will do.
    """

    description: str
    kind: str
    max_threads: PositiveInt
    local_bytes: NonNegativeInt


class Target(Record):
    """What the libraries were compiled for.

    `triple`, `cpu` and `threads` are of the processor. With a GPU, `device_type` is `opencl`, and the
    processor drives it.
    """

    name: str
    triple: str
    cpu: str
    threads: PositiveInt
    device_type: Literal["cpu", "opencl"] = "cpu"
    gpu: GpuNeeds | None = None

    @model_validator(mode="after")
    def _has_a_gpu_or_not(self) -> Self:
        if (self.gpu is None) != (self.device_type == "cpu"):
            raise ValueError("a target runs on its GPU if it has one, and on its processor if not")
        return self


class Device(Record):
    """What every time in the report was measured on; a GPU has no number of threads."""

    measured_on: str = Field(min_length=1)
    emulated: bool
    threads: PositiveInt | None = None


class Merge(Record):
    """A merge that was made.

    `layers` take part, `layers_removed` counts those now gone; parameters and multiply-adds are those of the
    whole network, before and after this merge.
    """

    name: Name
    kind: str
    exact: bool
    retrained: bool = False
    layers: tuple[Name, ...]
    layers_removed: NonNegativeInt
    params_before: NonNegativeInt
    params_after: NonNegativeInt
    macs_before: NonNegativeInt
    macs_after: NonNegativeInt

    @property
    def untrained(self) -> bool:
        """Whether the reborn layer still computes something else than the layers it replaces."""
        return not self.exact and not self.retrained


class Refusal(Record):
    """A candidate that was left alone, and why."""

    name: Name
    kind: str
    layers: tuple[Name, ...]
    reason: str
    detail: str = ""


class Precision(Record):
    """What the network lost by float16 layers or int8 weights, what these are, and how it was measured.

    `before` is the metric of the network in float32, `after` that of the one with layers that compute in
    `dtype` and weights rounded to `weights`, if to less than that. Without validation `data` the metric is
    the share of random inputs whose largest output stays the largest.
    """

    dtype: Literal["float32", "float16"]
    weights: Literal["int8"] | None = None
    note: str = Field(min_length=1)
    metric: Name
    samples: PositiveInt
    before: FiniteFloat
    after: FiniteFloat
    data: Name | None = None


class Totals(Record):
    """The size of a network: multiply-adds for one run, weights' elements, layers."""

    macs: NonNegativeInt
    params: NonNegativeInt
    layers: NonNegativeInt


class Samples(Record):
    """Where samples came from, how many there are, and how many of them could not be read.

    `unreadable` names the first of those.
    """

    name: Name
    samples: NonNegativeInt
    skipped: NonNegativeInt = 0
    unreadable: tuple[Name, ...] = ()


class AccuracyStep(Record):
    """Merges that were retrained together, and the metric before them, untrained, and retrained.

    `reason` says why a step was undone; its merges are not in the network then.
    """

    name: Name
    merges: tuple[Name, ...]
    kept: bool
    reason: str | None = None
    before: FiniteFloat
    started: FiniteFloat
    accuracy: FiniteFloat
    iterations: NonNegativeInt
    seconds: NonNegativeFloat


class Accuracy(Record):
    """A metric on the user's data before and after merging, or the sentence that says there is none.

    `note` says what it was measured on, in words.
    """

    measured: bool = False
    metric: Name | None = None
    before: FiniteFloat | None = None
    after: FiniteFloat | None = None
    drop: FiniteFloat | None = None
    training: Samples | None = None
    validation: Samples | None = None
    steps: tuple[AccuracyStep, ...] = ()
    note: str = ACCURACY_NOT_MEASURED

    @model_validator(mode="after")
    def _is_measured_or_not(self) -> Self:
        given = [value is not None for value in (self.metric, self.before, self.after, self.validation)]
        if self.measured and not all(given):
            raise ValueError("a measured accuracy needs its metric, its values, and what it was measured on")
        if not self.measured and (any(given) or self.drop is not None or self.steps):
            raise ValueError("an accuracy that was not measured has no values")
        if self.measured == (self.note == ACCURACY_NOT_MEASURED):
            raise ValueError(f"what was not measured, and nothing else, says: {ACCURACY_NOT_MEASURED}")
        return self

    @model_validator(mode="after")
    def _agrees_with_its_numbers(self) -> Self:
        if self.measured and self.drop != self.before - self.after:
            raise ValueError("the drop is not what lies between the values")
        return self


class Latency(Record):
    """Time of one inference in milliseconds; `untuned` is the median before tuning, where it was measured."""

    median: PositiveFloat
    p90: PositiveFloat
    runs: PositiveInt
    tuned_trials: NonNegativeInt
    untuned: PositiveFloat | None = None

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.p90 < self.median:
            raise ValueError("a 90th percentile cannot be below its median")
        return self


class Kernel(Record):
    """A function of a network on a GPU, timed alone on random input.

    `calls` and `launches` are those of one inference, `microseconds` the time of all its calls.
    """

    name: Name
    calls: PositiveInt
    launches: NonNegativeInt
    microseconds: PositiveFloat


class Memory(Record):
    """Bytes: planned for intermediate results, of the compiled library, of the weights.

    `stored_weights_bytes` are those of the weights as the bundle stores them, if otherwise.
    """

    planned_bytes: NonNegativeInt
    library_bytes: NonNegativeInt
    weights_bytes: NonNegativeInt
    stored_weights_bytes: NonNegativeInt | None = None


class Verification(Record):
    """One comparison of outputs, element by element; `tolerance` bounds the largest difference."""

    what: str
    against: str
    max_abs_diff: NonNegativeFloat
    tolerance: NonNegativeFloat
    passed: bool

    @model_validator(mode="after")
    def _agrees_with_its_numbers(self) -> Self:
        if self.passed != (self.max_abs_diff <= self.tolerance):
            raise ValueError(f"{self.what}: passed contradicts the difference and the tolerance")
        return self


class Tuning(Record):
    """What tuning did for one network.

    `untuned` names the functions that run without a record, with a schedule that nobody measured. `failures`
    are the causes of this session's failed trials. `wrong` names the tasks with a schedule that computed
    something else than the untuned function and was banned, `uncompared` those whose schedule could not be
    compared. `left_out` is what of the database was not used. `outliers` are run times that were left out,
    `unsteady` trials whose times did not settle. `winograd` counts layers that Winograd's algorithm computes.
    """

    tasks: NonNegativeInt
    trials: NonNegativeInt
    records_applied: NonNegativeInt
    functions: NonNegativeInt
    untuned: tuple[Name, ...] = ()
    seconds: NonNegativeFloat
    failed: NonNegativeInt
    failures: dict[str, NonNegativeInt] = Field(default_factory=dict)
    wrong: tuple[Name, ...] = ()
    uncompared: tuple[Name, ...] = ()
    left_out: str = "nothing"
    outliers: NonNegativeInt = 0
    unsteady: NonNegativeInt = 0
    winograd: NonNegativeInt = 0


class HandedOver(Record):
    """What every result carries: whether its layers are trained, what to know of it, and how it was verified.

    Raises
    ------
    pydantic.ValidationError
        It leaves out the notice it owes, or a verification failed.
    """

    structure_only: bool
    notices: tuple[str, ...] = ()
    verification: tuple[Verification, ...] = ()

    @model_validator(mode="after")
    def _carries_its_notice(self) -> Self:
        if self.structure_only and FOR_TIMING_ONLY not in self.notices:
            raise ValueError(f"what is structure_only carries the notice: {FOR_TIMING_ONLY}")
        return self

    @model_validator(mode="after")
    def _is_verified(self) -> Self:
        failed = [check.what for check in self.verification if not check.passed]
        if failed:
            raise ValueError(f"verification failed, nothing is handed over: {', '.join(failed)}")
        return self


class Report(HandedOver):
    """All of report.json.

    `launches` counts the kernels that one inference launches, or the functions that it calls on a
    processor. `kernels` are those of a GPU, the one that takes most of an inference first.

    Raises
    ------
    pydantic.ValidationError
        It claims what was not measured, leaves out a notice it owes, or a verification failed.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model: Model
    target: Target
    device: Device
    versions: dict[str, str]
    merges: tuple[Merge, ...]
    refusals: tuple[Refusal, ...]
    totals: Compared[Totals]
    launches: Compared[NonNegativeInt] | None = None
    kernels: Compared[tuple[Kernel, ...]] | None = None
    accuracy: Accuracy = Accuracy()
    precision: Compared[Precision] | None = None
    latency_ms: Compared[Latency]
    speedup: PositiveFloat | None
    speedup_note: str = Field(min_length=1)
    memory: Compared[Memory]
    verification: tuple[Verification, ...] = Field(min_length=1)
    tuning: Compared[Tuning]

    @model_validator(mode="after")
    def _tells_of_untrained_layers(self) -> Self:
        untrained = [merge.name for merge in self.merges if merge.untrained]
        if untrained and not self.structure_only:
            raise ValueError(f"not retrained, so the report is structure_only: {', '.join(untrained)}")
        return self

    @model_validator(mode="after")
    def _claims_no_emulated_speedup(self) -> Self:
        if self.device.emulated and self.speedup is not None:
            raise ValueError("no speed-up is claimed from an emulated device")
        return self


def speedup_of(latency: Compared[Latency], device: Device) -> tuple[float | None, str]:
    """Return the speed-up to claim from alternating measurements, and the sentence that goes with it.

    Parameters
    ----------
    latency : Compared[Latency]
        Milliseconds, both networks measured alternately in one run.
    device : Device
        What they were measured on.

    Returns
    -------
    tuple[float | None, str]
        Original over merged, of the medians; None when the device is emulated.
    """
    if device.emulated:
        return None, f"{device.measured_on} is emulated, and emulated times say nothing about a real device"
    original, merged = latency.original, latency.merged
    trials = (
        f"{merged.tuned_trials} trials each"
        if original.tuned_trials == merged.tuned_trials
        else f"{original.tuned_trials} and {merged.tuned_trials} trials"
    )
    threads = "" if device.threads is None else f" with {device.threads} threads"
    return original.median / merged.median, (
        f"merged against original, medians measured alternately in one run on {device.measured_on}"
        f"{threads}, tuned with {trials}"
    )
