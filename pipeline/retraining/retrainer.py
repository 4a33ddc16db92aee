"""One retraining: step after step, each kept or undone, with checkpoints between and inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.retraining import checkpoint
from pipeline.retraining.checkpoint import Done, Saved
from pipeline.retraining.course import Course
from pipeline.retraining.progress import TrainingProgress
from pipeline.retraining.recipes import Recipe
from pipeline.retraining.records import StepResult
from pipeline.retraining.step_run import StepRun
from pipeline.retraining.steps import Step
from pipeline.retraining.student import Feature, Student
from pipeline.retraining.traced import Traced
from relay_passes import Fixed, MergePlan

FINISH = "finish"


class Retrainer:
    """A retraining in progress.

    Parameters
    ----------
    course : Course
    steps : sequence of Step
    """

    def __init__(self, course: Course, steps: Sequence[Step]):
        self._course, self.steps = course, steps
        self._network = Traced(course.original)
        saved = checkpoint.load(course.out, course.identity)
        self._inside = None if saved is None else saved.step
        self.student = Student.of(course.original)
        if saved is None:
            self.done = Done(identity=course.identity, original=course.accuracy(self._network))
        else:
            self.done = saved.done
            self._make_again(saved)

    def run(self) -> None:
        """Take all steps that are not done yet."""
        for step in self.steps[len(self.done.results) :]:
            self._step(step)
        is_open = len(self.done.results) == len(self.steps)
        if is_open and self._course.finish_batches and self.accuracy < self._wanted:
            self._after_all()

    @property
    def accuracy(self) -> float:
        """The metric after the last step that was kept."""
        return next((each.accuracy for each in reversed(self.done.results) if each.kept), self.done.original)

    @property
    def _wanted(self) -> float:
        """The metric at which training ends."""
        return self.done.original - self._course.settings.max_drop / 2

    def _step(self, step: Step) -> None:
        student, made, features = self.student.merged(step.plan, self._course.ranks)
        if all(candidate.exact for candidate in made.candidates):
            self._record(_impossible(step, self.accuracy), None, None)
            return
        features = tuple(dict.fromkeys((*features, *student.features)))
        traced = Traced(student.module, [each.student for each in features])
        result = self._train(step.name, self._course.recipe, traced, features, self._course.step_batches)
        result = result.model_copy(update={"merges": step.merges, **self._verdict(result)})
        self._record(result, student.with_module(traced.write_back()) if result.kept else None, made)

    def _after_all(self) -> None:
        """Train all layers until little enough is lost."""
        recipe, batches = self._course.finish_recipe, self._course.finish_batches
        features = self.student.features if recipe.feature else ()
        traced = Traced(self.student.module, [each.student for each in features])
        result = self._train(FINISH, recipe, traced, features, batches)
        better = result.accuracy >= result.before
        reason = None if better else "the network before it was better"
        result = result.model_copy(update={"kept": better, "reason": reason})
        self._record(result, self.student.with_module(traced.write_back()) if better else None, None)

    def _train(
        self, name: str, recipe: Recipe, traced: Traced, features: Sequence[Feature], batches: int
    ) -> StepResult:
        course = self._course
        start = TrainingProgress(
            step=len(self.done.results),
            steps=len(self.steps),
            name=name,
            iteration=0,
            iterations=batches,
            batches_before=self.done.batches,
            original=self.done.original,
            wanted=self._wanted,
            metric=course.metric.name,
        )
        outcome = StepRun(course, recipe, self._network, traced, features, start, self._save).run(
            self._inside
        )
        return StepResult(
            name=name,
            merges=(),
            kept=True,
            before=self.accuracy,
            started=outcome.started,
            accuracy=outcome.accuracy,
            looks=outcome.looks,
            iterations=outcome.iterations,
            epochs=outcome.iterations / course.training.batches_per_epoch,
            seconds=outcome.seconds,
        )

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
