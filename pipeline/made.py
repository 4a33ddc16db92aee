"""What was made for one target, and writing it: two bundles, each verified once more, and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.building import Built
from pipeline.bundle import MeasuredAccuracy, verify_bundle, verify_bundle_elsewhere, write_bundle
from pipeline.network import Network
from pipeline.place import Place
from pipeline.report.model import Compared, Precision, Report, Samples
from pipeline.report.render import write_report
from pipeline.retraining.records import Retraining
from pipeline.tuner import Tuning
from targets.info import OWN_CPU
from tuning import Library


@dataclass(frozen=True)
class Made:
    """All that was made and measured for one target; `tuning` is how."""

    network: Network
    place: Place
    built: Compared[Built]
    report: Report
    record: Retraining | None
    tuning: Tuning

    @property
    def logs(self) -> tuple[Path, ...]:
        """Of the two tuning sessions."""
        return self.built.original.log, self.built.merged.log

    def write(self, directory: Path) -> None:
        """Write both bundles and the report.

        Raises
        ------
        BundleNotVerified
            A bundle computes something else than its golden output.
        """
        before, after = self.report.accuracy.before, self.report.accuracy.after
        verify = self._verifier()
        for built, accuracy in ((self.built.original, before), (self.built.merged, after)):
            bundle = directory / built.candidate.name
            self._write_bundle(bundle, built, self._measured(built, accuracy))
            verify(bundle)
        write_report(self.report, directory)

    def _measured(self, built: Built, value: float | None) -> MeasuredAccuracy | None:
        """Return the metric of just this network: once converted, that of the float32 network says little."""
        accuracy, precision = self.report.accuracy, built.candidate.precision
        if precision is not None:
            return None if precision.data is None else _converted(precision)
        if not accuracy.measured:
            return None
        return MeasuredAccuracy(metric=accuracy.metric, value=value, data=accuracy.validation)

    def _verifier(self) -> Callable[[Path], float]:
        """Return what runs a bundle once more: in a fresh process here, or on the device it is for."""
        gpu = self.place.target.gpu is not None
        if self.place.target.cpu == OWN_CPU and not (gpu and self.tuning.tracker is not None):
            return partial(verify_bundle, opencl_device=self.tuning.device)

        def run(library: Path, weights: Path, inputs: list[Any]) -> list[Any]:
            return self.place.run(Library(library, weights), inputs)

        return partial(verify_bundle_elsewhere, run=run)

    def _write_bundle(self, directory: Path, built: Built, accuracy: MeasuredAccuracy | None) -> None:
        candidate = built.candidate
        write_bundle(
            directory,
            name=self.network.name,
            library=built.compiled.library,
            weights=built.compiled.weights,
            stored=built.stored,
            golden_inputs=self.network.golden.inputs,
            golden_outputs=candidate.reference,
            target=self.report.target,
            versions=self.report.versions,
            tuned_trials=built.trials,
            records_applied=built.compiled.records_applied,
            tolerance=candidate.tolerance,
            verification=(built.verification,),
            structure_only=candidate.for_timing_only,
            notices=candidate.notices,
            preprocessing=None if self.record is None else self.record.preprocessing,
            accuracy=accuracy,
        )


def _converted(precision: Precision) -> MeasuredAccuracy:
    data = Samples(name=precision.data, samples=precision.samples)
    return MeasuredAccuracy(metric=precision.metric, value=precision.after, data=data)
