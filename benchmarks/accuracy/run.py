"""One run: merge and retrain a network by one recipe with one seed, and test what came of it.

All merges are made and retrained first; then, where that is wanted, the result is decomposed in several ways.
The test samples decide nothing; onnxruntime computes them from the files that a user would get.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from pydantic import FiniteFloat
from torch import Tensor

from accuracy.subjects import SUBJECTS, model_of, parts_of
from pipeline import MergeRequest, Settings, load_network, retrain
from pipeline.data import Loader, Metric, find_metric, open_data
from pipeline.record import Record
from pipeline.retraining import Retraining, TrainingProgress
from relay_passes import Ratio

DECOMPOSITIONS = {
    "tucker": Ratio(0.5),
    "tucker_svd": Ratio(0.5, matrices=True),
    "tucker_svd_third": Ratio(0.33, matrices=True),
}
"""What share of a layer's multiply-adds is left, and whether of 1x1 and dense layers too."""
DECOMPOSED_EPOCHS = 2.0
SHOWN_EVERY = 100
"""Batches."""


class Run(Record):
    """What is run; `settings` are the recipe's, the groups of the network aside."""

    network: str
    settings: Settings
    decomposed: bool

    @property
    def label(self) -> str:
        """For progress, and as a directory's name."""
        return f"{self.network}_{self.settings.recipe}_{self.settings.seed}"


class Decomposed(Record):
    """The merged network decomposed and retrained; `tested` is its metric on the test samples."""

    record: Retraining
    tested: FiniteFloat


class Outcome(Record):
    """What a run came to.

    Attributes
    ----------
    run : Run
    merged : Retraining
        With all merges.
    decomposed : dict of str to Decomposed
        From there on, by the names of `DECOMPOSITIONS`.
    original, tested : float
        The metric of the networks on the test samples.
    samples : int
        How many test samples there are.
    """

    run: Run
    merged: Retraining
    decomposed: dict[str, Decomposed]
    original: FiniteFloat
    tested: FiniteFloat
    samples: int

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each part of the data holds."""
        found = {part: getattr(self.merged, part).samples for part in ("training", "validation")}
        return {**found, "test": self.samples}

    @property
    def iterations(self) -> int:
        """Batches that were trained on, decomposing aside."""
        return sum(step.iterations for step in self.merged.steps)

    def iterations_to(self, accuracy: float) -> int | None:
        """Batches trained on until all merges were made and the validation accuracy was reached, or None."""
        steps = self.merged.steps
        last = max(place for place, step in enumerate(steps) if step.merges)
        before = sum(step.iterations for step in steps[:last])
        for step in steps[last:]:
            for batches, reached in ((0, step.started), *step.looks):
                if reached >= accuracy:
                    return before + batches
            before += step.iterations
        return None

    @property
    def recovered(self) -> bool:
        """Whether the validation accuracy came back to within the budget."""
        return self.merged.drop <= self.run.settings.max_drop


def merged_in(run: Run, folder: Path) -> Path:
    """The directory in which `run` leaves the network with all merges."""
    return folder / run.label / "merged"


def carry_out(run: Run, folder: Path) -> Outcome:
    """Retrain and test; a run that was broken off goes on.

    Parameters
    ----------
    run : Run
    folder : Path
        Holds the data and the original networks, and a directory for each run.
    """
    torch.set_num_threads(1)
    subject = SUBJECTS[run.network]
    parts, original = parts_of(subject, folder), model_of(run.network, folder)
    common = {"data": parts["training"], "validation": parts["validation"], "metric": subject.metric}
    common |= {"threads": 1, "show": progress(run.label), "say": lambda line: print(line, file=sys.stderr)}
    settings = run.settings.model_copy(update={"mirror": subject.mirror})
    grouped = settings.model_copy(update={"groups": subject.groups})
    merged = retrain(original, out=merged_in(run, folder), settings=grouped, **common)
    samples = opened_test(original, parts)
    test = partial(tested, samples=samples, metric=find_metric(subject.metric))
    brief = settings.model_copy(update={"epochs": DECOMPOSED_EPOCHS, "finish_epochs": 0.0})
    decomposed = {}
    for name, ranks in DECOMPOSITIONS.items() if run.decomposed else ():
        request = MergeRequest(retraining=True, only=("tucker",), ranks=ranks)
        place = folder / run.label / name
        done = retrain(merged.network, out=place, settings=brief, request=request, **common)
        decomposed[name] = Decomposed(record=done.record, tested=test(done.network))
    return Outcome(
        run=run,
        merged=merged.record,
        decomposed=decomposed,
        original=test(original),
        tested=test(merged.network),
        samples=len(samples.source),
    )


def progress(label: str) -> Callable[[TrainingProgress], None]:
    """A function that tells now and then how far a retraining is."""

    def show(now: TrainingProgress) -> None:
        if now.accuracy is None or now.seconds_left is None or now.iteration % SHOWN_EVERY:
            return
        print(
            f"{label}: {now.name}, {now.iteration} of {now.iterations} batches, {now.accuracy:.2f} of "
            f"{now.original:.2f}, {now.seconds_left / 60:.0f} min left at most",
            file=sys.stderr,
        )

    return show


def opened_test(model: Path, parts: dict[str, Path]) -> Loader:
    """The test samples as a network gets them."""
    data = open_data(parts["training"], parts["test"], load_network(model))
    return Loader(data.validation, batch_size=100, seed=0)


def tested(model: Path, samples: Loader, metric: Metric) -> float:
    """The mean of a metric of a network that takes one sample at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(model), options, providers=["CPUExecutionProvider"])
    names, scores = [each.name for each in session.get_inputs()], []
    for batch in samples.in_order():
        samples_of_batch = zip(*(inputs.split(1) for inputs in batch.inputs), strict=True)
        rows = [
            session.run(None, dict(zip(names, map(Tensor.numpy, inputs), strict=True)))
            for inputs in samples_of_batch
        ]
        outputs = tuple(torch.from_numpy(np.concatenate(each)) for each in zip(*rows, strict=True))
        scores.append(metric.scores(outputs, batch.labels))
    return float(torch.cat(scores).double().mean())
