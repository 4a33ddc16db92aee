"""Tune, compile and verify one network on a session's device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm

import targets
import tuning
from pipeline.console import Progress
from pipeline.report.model import Verification
from pipeline.tuner import Tuning, tune_module
from pipeline.verification import verify
from relay_passes import inline_composites

UNTUNED_RUNS = 3


@dataclass(frozen=True)
class Candidate:
    """One of the two networks on its way, and the outputs that it has to compute for the golden inputs.

    `name` is `original` or `merged`; `against` says in words where the reference comes from.
    """

    name: str
    module: tvm.IRModule
    reference: dict[str, np.ndarray]
    against: str


@dataclass(frozen=True)
class Built:
    """A network compiled with its tuned schedules, what was found out about it, and its session's log."""

    candidate: Candidate
    compiled: tuning.Compiled
    tuned: tuning.TuningResult
    untuned_ms: float
    verification: Verification
    log: Path

    @property
    def library(self) -> tuning.Library:
        """The two files to load."""
        return _library(self.compiled)

    @property
    def trials(self) -> int:
        """Candidates measured for it, in earlier runs too."""
        return sum(task.trials for task in self.tuned.tasks)


@dataclass(frozen=True)
class Builder:
    """Tunes, compiles and verifies networks on one session.

    `inputs` are the golden inputs.
    """

    inputs: list[np.ndarray]
    target: targets.TargetInfo
    session: tuning.Session
    how: Tuning
    seed: int
    progress: Progress

    def __call__(self, candidate: Candidate) -> Built:
        """Take one network the whole way.

        Raises
        ------
        tuning.TuningError
            The device is gone, or compiling failed.
        NotVerified
            The tuned library differs from the reference.
        """
        name = candidate.name
        module = inline_composites(candidate.module)
        self.progress.stage(f"Timing the {name} network untuned")
        untuned = tuning.compile_module(module, self.target, None)
        untuned_ms = self._time(untuned)
        self.progress.stage(f"Tuning the {name} network")
        tuned, log = tune_module(module, name, self.target, self.session, self.how, self.seed, self.progress)
        self.progress.stage(f"Compiling and verifying the {name} network")
        compiled = tuning.compile_module(module, self.target, self.how.records)
        outputs = tuning.run_remote(self.session, _library(compiled), self.inputs)
        what = f"tuned library of the {name} network"
        check = verify(what, candidate.against, candidate.reference, outputs)
        return Built(candidate, compiled, tuned, untuned_ms, check, log)

    def _time(self, compiled: tuning.Compiled) -> float:
        libraries = {"untuned": _library(compiled)}
        times = tuning.measure(self.session, libraries, {"untuned": self.inputs}, UNTUNED_RUNS)
        return times["untuned"].median_ms


def _library(compiled: tuning.Compiled) -> tuning.Library:
    return tuning.Library(compiled.library, compiled.weights)
