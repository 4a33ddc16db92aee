"""Make the report of a deployment from what its stages found out."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any

from pydantic import NonNegativeInt

import targets
import tuning
from pipeline.building import Built
from pipeline.merging import MergedNetwork
from pipeline.network import Network, TensorSpec
from pipeline.place import Place
from pipeline.report.accuracy import accuracy_of
from pipeline.report.model import (
    FOR_TIMING_ONLY,
    Accuracy,
    Compared,
    Device,
    GpuNeeds,
    Kernel,
    Latency,
    Memory,
    Merge,
    Model,
    Precision,
    Refusal,
    Report,
    Target,
    Tensor,
    Totals,
    Tuning,
    speedup_of,
)
from pipeline.retraining.records import Retraining
from relay_passes import MergePlan, cost, reborn_layers

VERSIONED = ("deeprebirth", "apache-tvm", "apache-tvm-ffi", "torch", "onnx", "onnxruntime")


def collect(
    network: Network,
    place: Place,
    merged: MergedNetwork,
    built: Compared[Built],
    times: Compared[tuning.Latency],
    retraining: Retraining | None = None,
) -> Report:
    """Make the report.

    Parameters
    ----------
    network : Network
        What was imported.
    place : Place
        What was built for, and what it was measured on.
    merged : MergedNetwork
        What was merged and refused.
    built, times
        Of the original and the merged network.
    retraining : Retraining, optional
        Of the merged network.
    """
    target, threads = place.target, place.session.threads
    device = Device(
        measured_on=place.measured_on,
        emulated=place.emulated,
        threads=threads if target.gpu is None else None,
    )
    both = (built.original, built.merged)
    latency = Compared[Latency](
        original=_latency(times.original, built.original), merged=_latency(times.merged, built.merged)
    )
    speedup, note = speedup_of(latency, device)
    untrained = bool(reborn_layers(merged.module))
    return Report(
        structure_only=untrained,
        notices=(FOR_TIMING_ONLY,) if untrained else (),
        model=Model(
            name=network.name,
            framework=network.framework,
            source_digest=network.source_digest,
            inputs=_tensors(network.inputs),
            outputs=_tensors(network.outputs),
        ),
        target=target_of(target, threads),
        device=device,
        versions={package: metadata.version(package) for package in VERSIONED},
        merges=_merges(merged.plan, retrained=retraining is not None),
        refusals=_refusals(merged.plan),
        totals=_compared(Totals, _totals, both),
        launches=_compared(NonNegativeInt, _launches, both),
        kernels=None if target.gpu is None else _compared(tuple[Kernel, ...], _kernels, both),
        precision=_precision(built),
        accuracy=Accuracy() if retraining is None else accuracy_of(retraining),
        latency_ms=latency,
        speedup=speedup,
        speedup_note=note,
        memory=_compared(Memory, _memory, both),
        verification=(merged.check, *(each.verification for each in both)),
        tuning=_compared(Tuning, _tuning, both),
    )


def _compared(kind: type, of: Callable[[Built], Any], both: tuple[Built, Built]) -> Compared:
    original, merged = map(of, both)
    return Compared[kind](original=original, merged=merged)


def target_of(info: targets.TargetInfo, threads: int) -> Target:
    """Return what a report and a bundle say of a target, whose processor runs so many threads."""
    made, gpu = info.target(), info.gpu
    processor = made if gpu is None else made.host
    return Target(
        name=info.name,
        triple=info.triple,
        cpu=str(processor.attrs["mcpu"]),
        threads=threads,
        device_type=info.device_type,
        gpu=None if gpu is None else _needs(gpu),
    )


def _needs(gpu: targets.Gpu) -> GpuNeeds:
    return GpuNeeds(
        description=gpu.description,
        kind=gpu.kind,
        max_threads=gpu.max_threads,
        local_bytes=gpu.local_bytes,
    )


def _tensors(specs: tuple[TensorSpec, ...]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name=spec.name, shape=spec.shape, dtype=spec.dtype) for spec in specs)


def _merges(plan: MergePlan, *, retrained: bool) -> tuple[Merge, ...]:
    return tuple(
        Merge(
            name=each.name,
            kind=each.kind,
            exact=each.exact,
            retrained=retrained and not each.exact,
            layers=each.layers,
            layers_removed=len(each.removed),
            params_before=each.parameters_before,
            params_after=each.parameters_after,
            macs_before=each.macs_before,
            macs_after=each.macs_after,
        )
        for each in plan.candidates
    )


def _refusals(plan: MergePlan) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(name=each.name, kind=each.kind, layers=each.layers, reason=each.reason, detail=each.detail)
        for each in plan.refusals
    )


def _totals(built: Built) -> Totals:
    total = cost(built.candidate.module)
    return Totals(macs=total.macs, params=total.parameters, layers=total.layers)


def _launches(built: Built) -> int:
    return built.compiled.launches


def _kernels(built: Built) -> tuple[Kernel, ...]:
    return tuple(
        Kernel(
            name=each.function.name,
            calls=each.function.calls,
            launches=each.function.launches,
            microseconds=each.inference_us,
        )
        for each in built.kernels
    )


def _precision(built: Compared[Built]) -> Compared[Precision] | None:
    original, merged = built.original.candidate.precision, built.merged.candidate.precision
    return None if original is None else Compared[Precision](original=original, merged=merged)


def _latency(times: tuning.Latency, built: Built) -> Latency:
    return Latency(
        median=times.median_ms,
        p90=times.p90_ms,
        runs=times.runs,
        tuned_trials=built.trials,
        untuned=built.untuned_ms,
    )


def _memory(built: Built) -> Memory:
    return Memory(
        planned_bytes=built.compiled.planned_bytes,
        library_bytes=built.compiled.library.stat().st_size,
        weights_bytes=sum(array.nbytes for array in built.compiled.params.values()),
        stored_weights_bytes=None
        if built.stored is None
        else sum(array.nbytes for array in built.stored.values()),
    )


def _tuning(built: Built) -> Tuning:
    return Tuning(
        tasks=len(built.tuned.tasks),
        trials=built.trials,
        records_applied=built.compiled.records_applied,
        functions=built.compiled.functions_total,
        untuned=tuple(built.compiled.untuned),
        winograd=built.compiled.winograd_layers,
        seconds=built.tuned.seconds,
        failed=sum(task.failed for task in built.tuned.tasks),
        failures={str(cause): count for cause, count in built.tuned.failures.items()},
        wrong=built.tuned.wrong,
        uncompared=built.tuned.uncompared,
        left_out=str(built.tuned.cleaning),
        outliers=built.tuned.outliers,
        unsteady=built.tuned.unsteady,
    )
