"""Train a student in one step: batches, looks at the accuracy, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from pipeline.retraining.course import Course
from pipeline.retraining.first_weights import draw_at_random, fit_to_original, new_parameters
from pipeline.retraining.progress import TrainingProgress
from pipeline.retraining.recipes import Recipe
from pipeline.retraining.shown import Shown
from pipeline.retraining.student import Feature
from pipeline.retraining.traced import Traced
from pipeline.retraining.training import Lesson, Training

CALIBRATION_BATCHES = 8
LOOKS = 10
"""At the validation data in a step, if it takes all the batches it may."""


@dataclass(frozen=True)
class Outcome:
    """What came of a step: the metric at its start, its end and every look, batches trained on, seconds."""

    started: float
    accuracy: float
    looks: tuple[tuple[int, float], ...]
    iterations: int
    seconds: float


class StepRun:
    """One step.

    Parameters
    ----------
    course : Course
    recipe : Recipe
    network : Traced
        The original, for metrics that compare with it.
    student : Traced
        Trained in place; it traces the features' layers.
    features : sequence of Feature
    start : TrainingProgress
        The step's place, and how many batches it may take.
    save : callable
        Given the state inside the step, keeps it.
    """

    def __init__(
        self,
        course: Course,
        recipe: Recipe,
        network: Traced,
        student: Traced,
        features: Sequence[Feature],
        start: TrainingProgress,
        save: Callable[[dict[str, Any]], None],
    ):
        self._course, self._recipe, self._network, self._student = course, recipe, network, student
        self._start, self._save, self._began = start, save, time.monotonic()
        original = Traced(course.original, [each.original for each in features])
        self._lesson = Lesson(original, features, course.kinds, course.label_loss, recipe)
        self._new = new_parameters(student.module, student)

    def run(self, inside: dict[str, Any] | None) -> Outcome:
        """Train until the metric is what is wanted, or the batches are used up.

        Parameters
        ----------
        inside : dict, optional
            A state that `save` was given, to go on from.
        """
        if inside is None:
            self._give_first_weights()
            accuracy = self._accuracy()
            inside = {"training": None, "started": accuracy, "looks": [], "seconds": 0.0}
        training = self._training(inside["training"])
        looks = self._train(training, inside)
        if training.iteration:
            training.finish()
        accuracy = looks[-1][1] if looks else inside["started"]
        seconds = self._seconds(inside["seconds"])
        return Outcome(inside["started"], accuracy, tuple(looks), training.iteration, seconds)

    def _training(self, state: dict[str, Any] | None) -> Training:
        course = self._course
        rate = course.settings.learning_rate or self._recipe.learning_rate
        training = Training(
            self._student,
            self._lesson,
            set(self._new),
            self._start.iterations,
            rate,
            course.processes,
            course.say,
        )
        if state is not None:
            training.restore(state)
        return training

    def _train(self, training: Training, inside: dict[str, Any]) -> list[tuple[int, float]]:
        """The metric at every look, with the batches trained on before it."""
        course, start = self._course, self._start
        looks, saved_at = [tuple(look) for look in inside["looks"]], time.monotonic()
        accuracy = looks[-1][1] if looks else inside["started"]
        shown = Shown(course.show, replace(start, iteration=training.iteration, accuracy=accuracy))
        every = course.settings.evaluate_every or max(1, start.iterations // LOOKS)
        with closing(course.training.training(start.batches_before + training.iteration)) as batches:
            while training.iteration < start.iterations and accuracy < start.wanted:
                losses = training.learn(next(batches))
                if training.iteration % every == 0 or training.iteration == start.iterations:
                    with training.averaged_weights():
                        accuracy = self._accuracy()
                    looks.append((training.iteration, accuracy))
                shown.update(training.iteration, losses, accuracy, training.learning_rate)
                if time.monotonic() - saved_at > course.checkpoint_seconds:
                    state = {"training": training.state(), "looks": looks}
                    self._save({**inside, **state, "seconds": self._seconds(inside["seconds"])})
                    saved_at = time.monotonic()
        return looks

    def _give_first_weights(self) -> None:
        seed = self._course.settings.seed + self._start.step
        if self._new and self._recipe.fits:
            loader = self._course.calibration
            count = min(CALIBRATION_BATCHES, loader.batches_per_epoch)
            fit_to_original(self._student, self._lesson, [loader.batch(0, i) for i in range(count)], seed)
        elif self._new:
            draw_at_random(self._student, self._new, seed)
        self._course.processes.share(self._student)

    def _accuracy(self) -> float:
        return self._course.accuracy(self._student, self._network)

    def _seconds(self, before: float) -> float:
        return before + time.monotonic() - self._began
