"""The whole way of one model: import, merge, retrain, tune, compile, verify, measure, hand over.

Two networks go this way side by side: the original, and the merged one. Both are tuned with the same number
of trials and timed alternately in one session, so that their ratio means something.

For several targets the network is imported, merged and retrained once. For each target the two networks are
tuned, compiled and verified on its device; all are timed in turns in one run; and a comparison of the
targets' reports says which to ship.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.alternating import measure_alternately
from pipeline.building import Builder
from pipeline.candidate import MERGED, ORIGINAL, candidates_of
from pipeline.console import Progress
from pipeline.data import find_metric, open_data
from pipeline.errors import UserError
from pipeline.files import check_replaceable, check_writable, fresh_directory
from pipeline.importer import load_network
from pipeline.made import Made
from pipeline.merging import EXACT_MERGES, MergeRequest, merge_verified
from pipeline.merging.retrained import retrained_network
from pipeline.network import Network
from pipeline.place import Place
from pipeline.precision import (
    DTYPES,
    FLOAT16,
    FLOAT32,
    INT8,
    Form,
    Validation,
    check_supported,
    open_validation,
)
from pipeline.precision.candidates import in_form
from pipeline.report.collect import collect
from pipeline.report.comparison_model import Comparison, compared
from pipeline.report.comparison_pages import write_comparison
from pipeline.report.model import Report
from pipeline.report.render import PAGES
from pipeline.retraining.records import Retraining
from pipeline.retraining.result import Retrained, read_result
from pipeline.retraining.settings import Settings
from pipeline.tuner import Tuning
from targets import TargetInfo


@dataclass(frozen=True)
class Deployment:
    """What `deploy` hands over.

    Attributes
    ----------
    report : Report or Comparison
        What was done and measured for one target; for several, their reports side by side.
    directory : Path
        Holds report.json, report.md, report.html; and the bundles `original` and `merged`, or a directory of
        the same kind for each of several targets.
    logs : tuple of Path
        Of the tuning sessions; `deeprebirth report` draws them.
    targets : tuple of Deployment
        Each of several targets; empty for one.
    """

    report: Report | Comparison
    directory: Path
    logs: tuple[Path, ...]
    targets: tuple[Deployment, ...] = ()

    @property
    def results(self) -> tuple[Path, ...]:
        """The files and bundles in `directory`, and the logs."""
        parts = tuple(each.directory for each in self.targets)
        if not parts:
            parts = (self.directory / ORIGINAL, self.directory / MERGED)
        return (*(self.directory / name for name in PAGES), *parts, *self.logs)


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
    targets: Sequence[str] = (),
    example_inputs: Any = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    request: MergeRequest = EXACT_MERGES,
    retrained: str | os.PathLike[str] | None = None,
    training: Training | None = None,
    dtype: str = FLOAT32,
    weights: str | None = None,
    validation: Any = None,
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
    targets : sequence of str, optional
        Several of them, instead of `target`. All are measured on this machine, or on the tracker's devices.
        The results of each lie in a directory of its own; one report on top compares them.
    request : MergeRequest
        The merges to make; by default all exact ones. With others, the result is for timing only, and marked
        so, unless they are retrained.
    retrained : path, optional
        A directory that `retrain` wrote for this model: its network is the merged one, and `request` is left
        alone.
    training : Training, optional
        Retrain first, in the directory `<out>.retraining`; a retraining that was broken off there goes on.
    dtype : str
        `float16` lets layers with weights hold and compute float16, where the target's processor does.
    weights : str, optional
        `int8` rounds the weights to int8 numbers with a scale for each channel, which the bundles store: a
        quarter of the size. They are multiplied when loading; what computes is `dtype`, on any target.
    validation : str, path or torch.utils.data.Dataset, optional
        What the accuracy in float16 or with int8 weights is measured on, by its top-1; by default the
        validation data and the metric of `training`. Without either it is not measured, and outputs for
        random inputs are compared.
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
        The model, a target, the request, the data or the output directory cannot be used.
    targets.TargetError
        A target is unknown, or its compiler is missing.
    tuning.TuningError
        A device is gone, or compiling failed.
    NotVerified, BundleNotVerified
        A library differs from its reference.
    """
    if retrained is not None and training is not None:
        raise UserError("a retraining is either read or made: give --retrained or --data, not both")
    infos = tuning.all_checked(targets or (target,))
    if dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype}: choose {' or '.join(DTYPES)}")
    if weights not in (None, INT8):
        raise UserError(f"weights cannot be stored as {weights}: choose {INT8}, or leave it out")
    form = Form(dtype, weights)
    if weights == INT8:
        tuning = replace(tuning, exact_math=True)
    if form == Form() and validation is not None:
        raise UserError("--validation has no use here: it is for --data, --dtype float16 or --weights int8")
    for info in infos if dtype == FLOAT16 else ():
        check_supported(info)
    folders, several = _folders(infos), len(infos) > 1
    out = Path(out)
    check_writable(out)
    check_replaceable(out)
    result = None if retrained is None else read_result(Path(retrained))
    network = load_network(model, example_inputs=example_inputs, input_shapes=input_shapes, seed=seed)
    with progress or Progress(quiet=True) as shown, ExitStack() as sessions:
        if training is not None:
            shown.stage("Retraining")
            result = _retrain(model, example_inputs, input_shapes, request, training, out, shown)
        shown.stage("Merging" if result is None else "Reading the retrained network")
        merged = merge_verified(network, request) if result is None else retrained_network(result, network)
        candidates = candidates_of(network, merged)
        record = None if result is None else result.record
        if form != Form():
            shown.stage(f"Converting both to {form}, and measuring what it costs")
            samples = _validation(network, training, validation, record, seed)
            candidates = in_form(form, candidates, network, samples, seed)
        places = []
        for info in infos:
            tuning.join(info, shown.say)
            places.append(Place(info, sessions.enter_context(tuning.session(info))))
        inputs = list(network.golden.inputs.values())
        built = [
            Builder(inputs, place, tuning, seed, shown, f" for {place.target.name}" if several else "").both(
                candidates
            )
            for place in places
        ]
        shown.stage("Measuring all in turns" if several else "Measuring both alternately")
        times = measure_alternately(places, built, inputs)
        made = [
            Made(network, place, both, collect(network, place, merged, both, each, record), record, tuning)
            for place, both, each in zip(places, built, times, strict=True)
        ]
        shown.stage("Writing and verifying the bundles")
        return _hand_over(out, folders, made)


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


def _hand_over(out: Path, folders: Sequence[str], made: Sequence[Made]) -> Deployment:
    """Write everything; it takes its place only if all bundles verify."""
    if len(made) == 1:
        (only,) = made
        with fresh_directory(out) as directory:
            only.write(directory)
        return Deployment(only.report, out, only.logs)
    comparison = compared(tuple(each.report for each in made), tuple(folders))
    with fresh_directory(out) as directory:
        for each, folder in zip(made, folders, strict=True):
            (directory / folder).mkdir()
            each.write(directory / folder)
        write_comparison(comparison, directory)
    parts = tuple(
        Deployment(each.report, out / folder, each.logs) for each, folder in zip(made, folders, strict=True)
    )
    return Deployment(comparison, out, tuple(chain.from_iterable(each.logs for each in parts)), parts)


def _validation(
    network: Network, training: Training | None, given: Any, record: Retraining | None, seed: int
) -> Validation | None:
    """Open what the conversion is measured on: the data given, or that of the retraining."""
    if given is not None:
        kept = None if record is None else record.preprocessing
        metric = "top-1" if record is None else record.metric
        return open_validation(given, network, metric=metric, preprocessing=kept, seed=seed)
    if training is None:
        return None
    opened = open_data(
        training.data,
        training.validation,
        network,
        preprocessing=training.preprocessing,
        classes=training.classes,
        seed=seed,
    )
    return Validation(opened.validation, find_metric(training.metric))


def _folders(infos: Sequence[TargetInfo]) -> list[str]:
    """Return a folder for the results of each target; one with a GPU and its host is `GPU-on-HOST`."""
    folders = [info.name.replace("+", "-on-") for info in infos]
    if len(set(folders)) < len(folders):
        raise UserError("results of two of the targets would lie in the same folder: rename one of them")
    return folders
