"""One retraining: step after step, each kept or undone, with checkpoints between and inside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from pipeline.data import Loader, Metric
from pipeline.retraining import checkpoint
from pipeline.retraining.checkpoint import Done, Identity, Saved
from pipeline.retraining.evaluate import evaluate
from pipeline.retraining.first_weights import draw_at_random, fit_to_original, new_parameters
from pipeline.retraining.objective import LabelLoss, Output
from pipeline.retraining.processes import Processes
from pipeline.retraining.progress import Show, TrainingProgress
from pipeline.retraining.recipes import RECIPES
from pipeline.retraining.records import StepResult
from pipeline.retraining.settings import Settings
from pipeline.retraining.steps import Step
from pipeline.retraining.student import Feature, Student
from pipeline.retraining.traced import Traced
from pipeline.retraining.training import Lesson, Losses, Training
from relay_passes import Fixed, MergePlan, RankChoice

FINISH = "finish"
CALIBRATION_BATCHES = 8
LOOKS = 10
"""At the validation data in a step, if it takes all the batches it may."""
SHOWN = 20
"""Batches over which the loss that is shown is a mean."""


@dataclass(frozen=True)
class Course:
    """What stays the same in all steps of a retraining.

    `ranks` says how convolutions are decomposed in the last step; `training` and `validation` are this
    process's loaders.
    """

    out: Path
    identity: Identity
    original: tvm.IRModule
    ranks: RankChoice | None
    training: Loader
    validation: Loader
    metric: Metric
    kinds: Sequence[Output]
    label_loss: LabelLoss | None
    processes: Processes
    checkpoint_seconds: float
    show: Show
    say: Callable[[str], None]

    @property
    def settings(self) -> Settings:
        """The recipe and its numbers."""
        return self.identity.settings


class Retrainer:
    """A retraining in progress.

    Parameters
    ----------
    course : Course
    steps : sequence of Step
    """

    def __init__(self, course: Course, steps: Sequence[Step]):
        self._course, self.steps = course, steps
        self._recipe = RECIPES[course.settings.recipe]
        self._batches = max(1, round(course.settings.epochs * course.training.batches_per_epoch))
        self._finish = round(course.settings.finish_epochs * course.training.batches_per_epoch)
        self._network = Traced(course.original)
        saved = checkpoint.load(course.out, course.identity)
        self._inside = None if saved is None else saved.step
        self.student = Student.of(course.original)
        if saved is None:
            self.done = Done(identity=course.identity, original=self._accuracy(self._network))
        else:
            self.done = saved.done
            self._make_again(saved)

    def run(self) -> None:
        """Take all steps that are not done yet."""
        for index in range(len(self.done.results), len(self.steps)):
            self._step(index)
        if self._finish and len(self.done.results) == len(self.steps) and self._lost() > 0:
            self._after_all()

    @property
    def accuracy(self) -> float:
        """The metric after the last step that was kept."""
        return next((each.accuracy for each in reversed(self.done.results) if each.kept), self.done.original)

    def _lost(self) -> float:
        return self.done.original - self.accuracy

    def _step(self, index: int) -> None:
        step = self.steps[index]
        student, made, features = self.student.merged(step.plan, self._course.ranks)
        if all(candidate.exact for candidate in made.candidates):
            self._record(_impossible(step, self.accuracy), None, None)
            return
        features = tuple(dict.fromkeys((*features, *student.features)))
        traced = Traced(student.module, [each.student for each in features])
        wanted = self.done.original - self._course.settings.max_drop / 2
        result = self._train(index, step.name, traced, features, self._batches, wanted)
        result = result.model_copy(update={"merges": step.merges, **self._verdict(result)})
        self._record(result, student.with_module(traced.write_back()) if result.kept else None, made)

    def _after_all(self) -> None:
        """Train all layers until nothing is lost."""
        features = self.student.features
        traced = Traced(self.student.module, [each.student for each in features])
        result = self._train(len(self.steps), FINISH, traced, features, self._finish, self.done.original)
        better = result.accuracy >= result.before
        reason = None if better else "the network before it was better"
        result = result.model_copy(update={"kept": better, "reason": reason})
        self._record(result, self.student.with_module(traced.write_back()) if better else None, None)

    def _train(
        self, index: int, name: str, traced: Traced, features: Sequence[Feature], batches: int, wanted: float
    ) -> StepResult:
        """Train until the metric is what is wanted, or the batches are used up."""
        course, began = self._course, time.monotonic()
        original = Traced(course.original, [each.original for each in features])
        lesson = Lesson(original, features, course.kinds, course.label_loss, self._recipe)
        new = new_parameters(traced.module, traced)
        inside = self._inside
        if inside is None:
            self._first_weights(traced, lesson, new, index)
        rate = course.settings.learning_rate or self._recipe.learning_rate
        training = Training(traced, lesson, set(new), batches, rate, course.processes, course.say)
        if inside is None:
            started = accuracy = self._accuracy(traced)
            spent = 0.0
        else:
            training.restore(inside["training"])
            started, accuracy, spent = inside["started"], inside["accuracy"], inside["seconds"]
        shown = _Shown(
            self._course.show,
            index,
            len(self.steps),
            name,
            batches,
            self.done.original,
            wanted,
            course.metric.name,
        )
        every = course.settings.evaluate_every or max(1, batches // LOOKS)
        saved_at = time.monotonic()
        with closing(course.training.training(self.done.batches + training.iteration)) as samples:
            while training.iteration < batches and accuracy < wanted:
                losses = training.learn(next(samples))
                if training.iteration % every == 0 or training.iteration == batches:
                    with training.averaged_weights():
                        accuracy = self._accuracy(traced)
                shown.update(training, losses, accuracy)
                if time.monotonic() - saved_at > course.checkpoint_seconds:
                    seconds = spent + time.monotonic() - began
                    self._save(
                        {
                            "training": training.state(),
                            "started": started,
                            "accuracy": accuracy,
                            "seconds": seconds,
                        }
                    )
                    saved_at = time.monotonic()
        if training.iteration:
            training.finish()
        return StepResult(
            name=name,
            merges=(),
            kept=True,
            before=self.accuracy,
            started=started,
            accuracy=accuracy,
            iterations=training.iteration,
            epochs=training.iteration / course.training.batches_per_epoch,
            seconds=spent + time.monotonic() - began,
        )

    def _first_weights(self, traced: Traced, lesson: Lesson, new: dict[str, str], index: int) -> None:
        seed = self._course.settings.seed + index
        if new and self._recipe.fits:
            loader = self._course.training
            count = min(CALIBRATION_BATCHES, loader.batches_per_epoch)
            fit_to_original(traced, lesson, [loader.batch(0, i) for i in range(count)], seed)
        elif new:
            draw_at_random(traced, new, seed)
        self._course.processes.share(traced)

    def _accuracy(self, network: Traced) -> float:
        course = self._course
        original = None if network is self._network else _outputs(self._network)
        return evaluate(_outputs(network), course.validation, course.metric, course.processes, original)

    def _verdict(self, result: StepResult) -> dict[str, Any]:
        settings, lost = self._course.settings, self.done.original - result.accuracy
        if lost <= settings.max_drop or settings.keep_all:
            return {"kept": True}
        reason = (
            f"{result.accuracy:.2f} is {lost:.2f} below the original's {self.done.original:.2f}, more than "
            f"{settings.max_drop:g}, after {result.epochs:.2g} epochs"
        )
        return {"kept": False, "reason": reason}

    def _record(self, result: StepResult, student: Student | None, made: MergePlan | None) -> None:
        """Keep a step's result, and the student that came of it if it is kept."""
        plans = (made,) if student is not None and made is not None else ()
        self.student = student or self.student
        self.done = self.done.model_copy(
            update={
                "results": (*self.done.results, result),
                "made": (*self.done.made, *plans),
                "batches": self.done.batches + result.iterations,
            }
        )
        self._inside = None
        self._save(None)

    def _save(self, inside: dict[str, Any] | None) -> None:
        if self._course.processes.is_first:
            weights = {
                name: value.detach() for name, value in Traced(self.student.module).twin.state_dict().items()
            }
            checkpoint.save(self._course.out, Saved(self.done, weights, inside))

    def _make_again(self, saved: Saved) -> None:
        """The network after the last step that was kept."""
        for plan in saved.done.made:
            self.student, _, _ = self.student.merged(plan, Fixed(plan.ranks) if plan.ranks else None)
        traced = Traced(self.student.module)
        traced.twin.load_state_dict(saved.weights)
        self.student = self.student.with_module(traced.write_back())


class _Shown:
    """Tells how far a step is, with the mean loss of the last batches and the time that is left."""

    def __init__(
        self,
        show: Show,
        step: int,
        steps: int,
        name: str,
        batches: int,
        original: float,
        wanted: float,
        metric: str,
    ):
        self._show, self._began, self._first = show, time.monotonic(), None
        self._facts = {"step": step, "steps": steps, "name": name, "iterations": batches}
        self._facts |= {"original": original, "wanted": wanted, "metric": metric}
        self._losses: list[Losses] = []

    def update(self, training: Training, losses: Losses, accuracy: float) -> None:
        """Tell of a batch."""
        if self._first is None:
            self._first = training.iteration - 1
        self._losses = [*self._losses[1 - SHOWN :], losses]
        seconds = (time.monotonic() - self._began) / (training.iteration - self._first)
        steps_left = max(0, self._facts["steps"] - self._facts["step"] - 1)
        left = training.batches * (1 + steps_left) - training.iteration
        parts = {name: self._mean(lambda each, name=name: each.parts[name]) for name in losses.parts}
        self._show(
            TrainingProgress(
                **self._facts,
                iteration=training.iteration,
                loss=self._mean(lambda each: each.total),
                losses=parts,
                accuracy=accuracy,
                seconds_left=seconds * left,
                learning_rate=training.learning_rate,
            )
        )

    def _mean(self, of: Callable[[Losses], float]) -> float:
        return sum(map(of, self._losses)) / len(self._losses)


def _outputs(network: Traced) -> Callable[..., tuple]:
    return lambda *inputs: network(*inputs).outputs


def _impossible(step: Step, accuracy: float) -> StepResult:
    return StepResult(
        name=step.name,
        merges=step.merges,
        kept=False,
        reason="it cannot be made without a step that was undone",
        before=accuracy,
        started=accuracy,
        accuracy=accuracy,
        iterations=0,
        epochs=0,
        seconds=0,
    )
