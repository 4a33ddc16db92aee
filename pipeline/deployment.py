"""The whole way of one model: import, merge, tune, compile, verify, measure, hand over.

Two networks go this way side by side: the original, and the merged one. Both are tuned with the same number
of trials and timed alternately in one session, so that their ratio means something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import tvm

import targets
import tuning
from pipeline.bundle import verify_bundle, write_bundle
from pipeline.console import Progress
from pipeline.errors import UserError
from pipeline.files import check_replaceable, check_writable, fresh_directory
from pipeline.importer import load_network
from pipeline.network import Network, TensorSpec
from pipeline.report.model import (
    FOR_TIMING_ONLY,
    Compared,
    Device,
    Latency,
    Memory,
    Merge,
    Model,
    Refusal,
    Report,
    Target,
    Tensor,
    Totals,
    Tuning,
    Verification,
    speedup_of,
)
from pipeline.report.render import write_report
from pipeline.twin import evaluate
from pipeline.verification import tolerance_for, verify
from relay_passes import MergePlan, apply_plan, cost, inline_composites, plan_merges

TRIALS = 512
RUNS = 50
UNTUNED_RUNS = 3
ORIGINAL, MERGED = "original", "merged"
REPORTS = ("report.json", "report.md", "report.html")
VERSIONED = ("deeprebirth", "apache-tvm", "apache-tvm-ffi", "torch", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Deployment:
    """What `deploy` hands over.

    Attributes
    ----------
    report : Report
        What was done and measured.
    directory : Path
        Holds report.json, report.md, report.html and the bundles `original` and `merged`.
    """

    report: Report
    directory: Path

    @property
    def results(self) -> tuple[Path, ...]:
        """The files and bundles in `directory`."""
        return tuple(self.directory / name for name in (*REPORTS, ORIGINAL, MERGED))


@dataclass(frozen=True)
class _Candidate:
    """One of the two networks on its way, and what it has to compute."""

    module: tvm.IRModule
    reference: dict[str, np.ndarray]
    against: str


@dataclass(frozen=True)
class _Built:
    """A network compiled with its tuned schedules, and what was found out about it."""

    compiled: tuning.Compiled
    tuned: tuning.TuningResult
    untuned_ms: float
    verification: Verification

    @property
    def library(self) -> tuning.Library:
        return tuning.Library(self.compiled.library, self.compiled.weights)

    @property
    def trials(self) -> int:
        return sum(task.trials for task in self.tuned.tasks)


def deploy(
    model: str | os.PathLike[str] | Any,
    *,
    out: str | os.PathLike[str],
    target: str = "host",
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    trials: int = TRIALS,
    structure_only: bool = False,
    threads: int | None = None,
    database: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Deployment:
    """Merge, tune, compile, verify and measure a model, and write the bundles and the report.

    Parameters
    ----------
    model, example_inputs, input_shapes
        As for `pipeline.load_network`: an ONNX file, a `torch.export` archive, or an `nn.Module` in eval mode
        with example inputs.
    out : path
        The directory to write; an older result of ours there is replaced when the new one is complete.
    target : str
        A name from `deeprebirth targets`.
    trials : int
        Candidates to measure for each of the two networks, those that the database holds included.
    structure_only : bool
        Also make the merges that need retraining. The result is for timing only, and marked so.
    threads : int, optional
        Cores to use on the device; by default all.
    database : path, optional
        Where tuning records are kept; by default in the user's data directory.
    seed : int
        Of the search, and of random golden inputs.
    progress : Progress, optional
        What shows how far it is; by default nothing.

    Returns
    -------
    Deployment

    Raises
    ------
    UserError
        The model, the target or the output directory cannot be used.
    targets.TargetError
        The target is unknown, or its compiler is missing.
    tuning.TuningError
        The device is gone, or compiling failed.
    NotVerified, BundleNotVerified
        A library differs from its reference.
    """
    info = _usable_target(target, threads, trials)
    out = Path(out)
    check_writable(out)
    check_replaceable(out)
    records = Path(database) if database else platformdirs.user_data_path("deeprebirth") / "tuning"
    check_writable(records)
    with progress or Progress(quiet=True) as shown:
        shown.stage("Importing and checking the model")
        network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes, seed=seed)
        shown.stage("Merging")
        plan = plan_merges(network.module)
        plan = plan if structure_only else plan.exact_only()
        original, merged, merge_checks = _candidates(network, plan)
        with tuning.LocalSession(info, threads) as session:
            build = _Builder(network, info, session, records, trials, seed, shown)
            built = Compared[Any](original=build(ORIGINAL, original), merged=build(MERGED, merged))
            shown.stage("Measuring both alternately")
            times = _measure(session, network, built)
        report = _report(network, info, session.threads, plan, (original, merged), built, times, merge_checks)
        shown.stage("Writing and verifying the bundles")
        _hand_over(out, report, network, (original, merged), built)
    return Deployment(report, out)


def _usable_target(name: str, threads: int | None, trials: int) -> targets.TargetInfo:
    info = targets.find(name)
    info.require_compiler()
    if trials < 1:
        raise UserError(f"--trials {trials}: give at least 1")
    if threads is not None and not 1 <= threads <= info.threads:
        raise UserError(f"--threads {threads}: {info.measured_on()} has 1 to {info.threads}")
    return info


def _candidates(network: Network, plan: MergePlan) -> tuple[_Candidate, _Candidate, tuple[Verification, ...]]:
    """The original and the merged network; exact merges are compared with the original at once."""
    merged = apply_plan(network.module, plan)
    original = _Candidate(network.module, network.golden.outputs, f"the original in {network.framework}")
    outputs = evaluate(merged, list(network.golden.inputs.values()))
    if all(candidate.exact for candidate in plan.candidates):
        check = verify("exact merges", original.against, network.golden.outputs, outputs)
        return original, _Candidate(merged, original.reference, original.against), (check,)
    named = dict(zip(network.golden.outputs, outputs, strict=True))
    return original, _Candidate(merged, named, "the merged network in torch"), ()


@dataclass(frozen=True)
class _Builder:
    """Tunes, compiles and verifies one network after the other on one session."""

    network: Network
    target: targets.TargetInfo
    session: tuning.Session
    database: Path
    trials: int
    seed: int
    progress: Progress

    def __call__(self, name: str, candidate: _Candidate) -> _Built:
        module = inline_composites(candidate.module)
        inputs = list(self.network.golden.inputs.values())
        self.progress.stage(f"Timing the {name} network untuned")
        untuned = tuning.compile_module(module, self.target, None)
        untuned_ms = self._time(untuned, inputs)
        self.progress.stage(f"Tuning the {name} network")
        tuned = tuning.tune(
            module, self.target, self.session, self.database, self.trials, self.seed, self.progress.tuning
        )
        self.progress.stage(f"Compiling and verifying the {name} network")
        compiled = tuning.compile_module(module, self.target, self.database)
        library = tuning.Library(compiled.library, compiled.weights)
        outputs = tuning.run_remote(self.session, library, inputs)
        what = f"tuned library of the {name} network"
        check = verify(what, candidate.against, candidate.reference, outputs)
        return _Built(compiled, tuned, untuned_ms, check)

    def _time(self, compiled: tuning.Compiled, inputs: list[np.ndarray]) -> float:
        library = tuning.Library(compiled.library, compiled.weights)
        times = tuning.measure(self.session, {"untuned": library}, {"untuned": inputs}, UNTUNED_RUNS)
        return times["untuned"].median_ms


def _measure(session: tuning.Session, network: Network, built: Compared[_Built]) -> dict[str, tuning.Latency]:
    libraries = {ORIGINAL: built.original.library, MERGED: built.merged.library}
    inputs = list(network.golden.inputs.values())
    return tuning.measure(session, libraries, dict.fromkeys(libraries, inputs), RUNS)


def _report(
    network: Network,
    info: targets.TargetInfo,
    threads: int,
    plan: MergePlan,
    candidates: tuple[_Candidate, _Candidate],
    built: Compared[_Built],
    times: dict[str, tuning.Latency],
    merge_checks: tuple[Verification, ...],
) -> Report:
    device = Device(measured_on=info.measured_on(), emulated=info.emulated, threads=threads)
    both = (built.original, built.merged)
    latency = Compared[Latency](
        original=_latency(times[ORIGINAL], built.original), merged=_latency(times[MERGED], built.merged)
    )
    speedup, note = speedup_of(latency, device)
    untrained = any(not candidate.exact for candidate in plan.candidates)
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
        target=Target(name=info.name, triple=info.triple, cpu=_cpu(info), threads=threads),
        device=device,
        versions={package: metadata.version(package) for package in VERSIONED},
        merges=_merges(plan),
        refusals=_refusals(plan),
        totals=_compared(Totals, _totals, [candidate.module for candidate in candidates]),
        latency_ms=latency,
        speedup=speedup,
        speedup_note=note,
        memory=_compared(Memory, _memory, both),
        verification=(*merge_checks, *(each.verification for each in both)),
        tuning=_compared(Tuning, _tuning, both),
    )


def _compared(kind: type, of: Callable[[Any], Any], both: Any) -> Compared:
    original, merged = map(of, both)
    return Compared[kind](original=original, merged=merged)


def _cpu(info: targets.TargetInfo) -> str:
    return str(info.target().attrs["mcpu"])


def _tensors(specs: tuple[TensorSpec, ...]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name=spec.name, shape=spec.shape, dtype=spec.dtype) for spec in specs)


def _merges(plan: MergePlan) -> tuple[Merge, ...]:
    return tuple(
        Merge(
            name=each.name,
            kind=each.kind,
            exact=each.exact,
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


def _totals(module: tvm.IRModule) -> Totals:
    total = cost(module)
    return Totals(macs=total.macs, params=total.parameters, layers=total.layers)


def _latency(times: tuning.Latency, built: _Built) -> Latency:
    return Latency(
        median=times.median_ms,
        p90=times.p90_ms,
        runs=times.runs,
        tuned_trials=built.trials,
        untuned=built.untuned_ms,
    )


def _memory(built: _Built) -> Memory:
    return Memory(
        planned_bytes=built.compiled.planned_bytes,
        library_bytes=built.compiled.library.stat().st_size,
        weights_bytes=sum(array.nbytes for array in built.compiled.params.values()),
    )


def _tuning(built: _Built) -> Tuning:
    return Tuning(
        tasks=len(built.tuned.tasks),
        trials=built.trials,
        records_applied=built.compiled.records_applied,
        functions=built.compiled.functions_total,
        untuned=tuple(built.compiled.untuned),
        seconds=built.tuned.seconds,
        failed=sum(task.failed for task in built.tuned.tasks),
    )


def _hand_over(
    out: Path,
    report: Report,
    network: Network,
    candidates: tuple[_Candidate, _Candidate],
    built: Compared[_Built],
) -> None:
    """Write both bundles and the report; they take their place only if the bundles verify."""
    with fresh_directory(out) as directory:
        for name, candidate, each in zip(
            (ORIGINAL, MERGED), candidates, (built.original, built.merged), strict=True
        ):
            is_merged = name == MERGED
            write_bundle(
                directory / name,
                name=network.name,
                library=each.compiled.library,
                weights=each.compiled.weights,
                golden_inputs=network.golden.inputs,
                golden_outputs=candidate.reference,
                target=report.target,
                versions=report.versions,
                tuned_trials=each.trials,
                records_applied=each.compiled.records_applied,
                tolerance=max(map(tolerance_for, candidate.reference.values())),
                verification=(each.verification,),
                structure_only=report.structure_only and is_merged,
                notices=report.notices if is_merged else (),
            )
            verify_bundle(directory / name)
        write_report(report, directory)
