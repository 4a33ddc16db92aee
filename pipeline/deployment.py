"""The whole way of one model: import, merge, retrain, tune, compile, verify, measure, hand over.

Two networks go this way side by side: the original, and the merged one. Both are tuned with the same number
of trials and timed alternately in one session, so that their ratio means something.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.building import Builder, Built, Candidate
from pipeline.bundle import MeasuredAccuracy, verify_bundle, verify_bundle_elsewhere, write_bundle
from pipeline.console import Progress
from pipeline.data import Preprocessing
from pipeline.errors import UserError
from pipeline.files import check_replaceable, check_writable, fresh_directory
from pipeline.importer import load_network
from pipeline.merging import EXACT_MERGES, MergedNetwork, MergeRequest, merge_verified, original_in
from pipeline.merging.retrained import retrained_network
from pipeline.network import Network
from pipeline.report.collect import collect
from pipeline.report.model import FOR_TIMING_ONLY, Accuracy, Compared, Report
from pipeline.report.render import PAGES, write_report
from pipeline.retraining.records import Retraining
from pipeline.retraining.result import Retrained, read_result
from pipeline.retraining.settings import Settings
from pipeline.tuner import Tuning
from pipeline.verification import tolerance_for
from relay_passes import reborn_layers
from targets import TargetInfo
from targets.info import OWN_CPU
from tuning import Latency, Library, Session, measure, run_remote

RUNS = 50
ORIGINAL, MERGED = "original", "merged"


@dataclass(frozen=True)
class Deployment:
    """What `deploy` hands over.

    Attributes
    ----------
    report : Report
        What was done and measured.
    directory : Path
        Holds report.json, report.md, report.html and the bundles `original` and `merged`.
    logs : tuple of Path
        Of the two tuning sessions; `deeprebirth report` draws them.
    """

    report: Report
    directory: Path
    logs: tuple[Path, ...]

    @property
    def results(self) -> tuple[Path, ...]:
        """The files and bundles in `directory`, and the logs."""
        return (*(self.directory / name for name in (*PAGES, ORIGINAL, MERGED)), *self.logs)


@dataclass(frozen=True)
class Training:
    """What `deploy` retrains on, and how; the fields are those of `pipeline.retrain`."""

    data: Any
    validation: Any = None
    settings: Settings = field(default_factory=Settings)
    metric: str = "top-1"
    preprocessing: Any = None
    classes: str | os.PathLike[str] | None = None


def deploy(
    model: str | os.PathLike[str] | Any,
    *,
    out: str | os.PathLike[str],
    target: str = "host",
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    request: MergeRequest = EXACT_MERGES,
    retrained: str | os.PathLike[str] | None = None,
    training: Training | None = None,
    tuning: Tuning = Tuning(),  # noqa: B008
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
    request : MergeRequest
        The merges to make; by default all exact ones. With others, the result is for timing only, and marked
        so, unless they are retrained.
    retrained : path, optional
        A directory that `retrain` wrote for this model: its network is the merged one, and `request` is left
        alone.
    training : Training, optional
        Retrain first, in the directory `<out>.retraining`; a retraining that was broken off there goes on.
    tuning : Tuning
        How long each of the two networks is tuned, and on which devices.
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
        The model, the target, the request, the data or the output directory cannot be used.
    targets.TargetError
        The target is unknown, or its compiler is missing.
    tuning.TuningError
        The device is gone, or compiling failed.
    NotVerified, BundleNotVerified
        A library differs from its reference.
    """
    if retrained is not None and training is not None:
        raise UserError("a retraining is either read or made: give --retrained or --data, not both")
    info = tuning.checked(target)
    out = Path(out)
    check_writable(out)
    check_replaceable(out)
    result = None if retrained is None else read_result(Path(retrained))
    network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes, seed=seed)
    with progress or Progress(quiet=True) as shown:
        if training is not None:
            shown.stage("Retraining")
            result = _retrain(model, example_inputs, input_shapes, request, training, out, shown)
        shown.stage("Merging" if result is None else "Reading the retrained network")
        merged = merge_verified(network, request) if result is None else retrained_network(result, network)
        candidates = _candidates(network, merged)
        tuning.join(info, shown.say)
        with tuning.session(info) as session:
            inputs = list(network.golden.inputs.values())
            build = Builder(inputs, info, session, tuning, seed, shown)
            built = Compared[Any](original=build(candidates.original), merged=build(candidates.merged))
            shown.stage("Measuring both alternately")
            times = _measure(session, inputs, built)
            record = None if result is None else result.record
            report = collect(network, info, session, merged, built, times, record)
            shown.stage("Writing and verifying the bundles")
            _hand_over(out, report, network, built, record, _verifier(info, session))
    return Deployment(report, out, (built.original.log, built.merged.log))


def _retrain(
    model: Any,
    example_inputs: Any,
    input_shapes: Mapping[str, tuple[int, ...]] | None,
    request: MergeRequest,
    training: Training,
    out: Path,
    shown: Progress,
) -> Retrained:
    """Retrain beside the output directory."""
    from pipeline.retraining import retrain

    place = Path(os.path.realpath(out))
    return retrain(
        model,
        example_inputs=example_inputs,
        input_shapes=input_shapes,
        out=place.with_name(f"{place.name}.retraining"),
        request=request,
        show=shown.training,
        say=shown.say,
        **vars(training),
    )


def _candidates(network: Network, merged: MergedNetwork) -> Compared[Candidate]:
    original = Candidate(ORIGINAL, network.module, network.golden.outputs, original_in(network))
    return Compared[Any](
        original=original, merged=Candidate(MERGED, merged.module, merged.reference, merged.against)
    )


def _measure(session: Session, inputs: list[Any], built: Compared[Built]) -> Compared[Latency]:
    libraries = {ORIGINAL: built.original.library, MERGED: built.merged.library}
    times = measure(session, libraries, dict.fromkeys(libraries, inputs), RUNS)
    return Compared[Any](original=times[ORIGINAL], merged=times[MERGED])


def _hand_over(
    out: Path,
    report: Report,
    network: Network,
    built: Compared[Built],
    record: Retraining | None,
    verify: Callable[[Path], float],
) -> None:
    """Write both bundles and the report; they take their place only if the bundles verify."""
    accuracy, preprocessing = report.accuracy, None if record is None else record.preprocessing
    with fresh_directory(out) as directory:
        for each, value in ((built.original, accuracy.before), (built.merged, accuracy.after)):
            place = directory / each.candidate.name
            _write_bundle(place, report, network, each, preprocessing, _measured(accuracy, value))
            verify(place)
        write_report(report, directory)


def _measured(accuracy: Accuracy, value: float | None) -> MeasuredAccuracy | None:
    if not accuracy.measured:
        return None
    return MeasuredAccuracy(metric=accuracy.metric, value=value, data=accuracy.validation)


def _verifier(info: TargetInfo, session: Session) -> Callable[[Path], float]:
    """Return what runs a bundle once more: in a fresh process here, or on the device it is for."""
    if info.cpu == OWN_CPU:
        return verify_bundle

    def run(library: Path, weights: Path, inputs: list[Any]) -> list[Any]:
        return run_remote(session, Library(library, weights), inputs, device_type=info.device_type)

    return partial(verify_bundle_elsewhere, run=run)


def _write_bundle(
    directory: Path,
    report: Report,
    network: Network,
    built: Built,
    preprocessing: Preprocessing | None,
    accuracy: MeasuredAccuracy | None,
) -> None:
    candidate = built.candidate
    for_timing_only = bool(reborn_layers(candidate.module))
    write_bundle(
        directory,
        name=network.name,
        library=built.compiled.library,
        weights=built.compiled.weights,
        golden_inputs=network.golden.inputs,
        golden_outputs=candidate.reference,
        target=report.target,
        versions=report.versions,
        tuned_trials=built.trials,
        records_applied=built.compiled.records_applied,
        tolerance=max(map(tolerance_for, candidate.reference.values())),
        verification=(built.verification,),
        structure_only=for_timing_only,
        notices=(FOR_TIMING_ONLY,) if for_timing_only else (),
        preprocessing=preprocessing,
        accuracy=accuracy,
    )
