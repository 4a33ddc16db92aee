"""Tune, compile and verify one network for one target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import tuning
from pipeline.bundle import pack
from pipeline.candidate import Candidate
from pipeline.console import Progress
from pipeline.place import Place
from pipeline.report.model import Compared, Verification
from pipeline.tuner import Tuning, tune_module
from pipeline.verification import verify
from relay_passes import inline_composites

UNTUNED_RUNS = 3


@dataclass(frozen=True)
class Built:
    """A network compiled with its tuned schedules, what was found out about it, and its session's log.

    `kernels` are the times of its functions on a GPU.
    """

    candidate: Candidate
    compiled: tuning.Compiled
    tuned: tuning.TuningResult
    untuned_ms: float
    verification: Verification
    log: Path
    kernels: tuple[tuning.KernelTime, ...] = ()

    @property
    def library(self) -> tuning.Library:
        """The two files to load."""
        return _library(self.compiled)

    @cached_property
    def stored(self) -> dict[str, np.ndarray] | None:
        """What a bundle stores in place of the weights, if they are int8 numbers and scales."""
        return pack(self.compiled.params) if self.candidate.has_int8_weights else None

    @property
    def trials(self) -> int:
        """Candidates measured for it, in earlier runs too."""
        return sum(task.trials for task in self.tuned.tasks)


@dataclass(frozen=True)
class Builder:
    """Tunes, compiles and verifies networks at one place.

    `inputs` are the golden inputs; `purpose` says in words what for, where there are several targets.
    """

    inputs: list[np.ndarray]
    place: Place
    how: Tuning
    seed: int
    progress: Progress
    purpose: str = ""

    def both(self, candidates: Compared[Candidate]) -> Compared[Built]:
        """Take the original and the merged network the whole way; raises as a single one does."""
        return Compared[Any](original=self(candidates.original), merged=self(candidates.merged))

    def __call__(self, candidate: Candidate) -> Built:
        """Take one network the whole way.

        Raises
        ------
        tuning.TuningError
            The device is gone, or compiling failed.
        NotVerified
            The tuned library differs from the reference.
        """
        name, target = candidate.name, self.place.target
        what = f"the {name} network{self.purpose}"
        module = inline_composites(candidate.module)
        self.progress.stage(f"Timing {what} untuned")
        untuned = tuning.compile_module(module, target, None)
        untuned_ms = self._time(untuned)
        self.progress.stage(f"Tuning {what}")
        tuned, log = tune_module(module, name, target, self.place.session, self.how, self.seed, self.progress)
        self.progress.stage(f"Compiling and verifying {what}")
        on_gpu = target.gpu is not None
        compiled = tuning.compile_module(
            module, target, self.how.records, functions_alone=on_gpu, exact_math=self.how.exact_math
        )
        outputs = self.place.run(_library(compiled), self.inputs)
        check = verify(
            f"tuned library of the {name} network",
            candidate.against,
            candidate.reference,
            outputs,
            candidate.tolerances,
        )
        kernels: list[tuning.KernelTime] = []
        if on_gpu:
            self.progress.stage(f"Timing the kernels of {what}")
            kernels = tuning.kernel_times(self.place.session, target, compiled)
        return Built(candidate, compiled, tuned, untuned_ms, check, log, tuple(kernels))

    def _time(self, compiled: tuning.Compiled) -> float:
        times = self.place.measure({"untuned": _library(compiled)}, self.inputs, UNTUNED_RUNS)
        return times["untuned"].median_ms


def _library(compiled: tuning.Compiled) -> tuning.Library:
    return tuning.Library(compiled.library, compiled.weights)
