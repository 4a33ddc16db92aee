"""The table from the outcomes: means over the seeds, and the figures that stand for them.

Both recipes may train on as many batches. The ratio of steps asks for the same accuracy: how many of them
ours needs until the fully merged network is as good as what the paper's recipe ends with, and how many that
one took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from accuracy.run import DECOMPOSITIONS, Outcome
from pipeline.retraining import Retraining

OURS, PAPER = "fitted", "paper"
MAIN = "googlenet"

FIGURES = {
    "drop_points": "test accuracy of the original less that of the fully merged network; recipe fitted, mean "
    "over seeds",
    "steps_ratio": "batches, fitted / paper, until the fully merged network has the validation accuracy that "
    "the paper's recipe ends with; mean over seeds, null if fitted never has it",
    "ours_recovered, paper_recovered": "whether the validation accuracy came back to within the budget with "
    "every seed",
    "speedup": "original / fully merged, both tuned with as many trials and timed alternately",
    "accuracy": "test accuracy of the original and of the fully merged network, mean over seeds",
    "rows": "validation accuracy after each step, and its batches, mean over seeds; kept: with every seed",
    "tucker, tucker_svd, tucker_svd_third": "the fully merged network decomposed and retrained, to a half or "
    "a third of each layer's multiply-adds, with svd of 1x1 and dense layers too: test accuracy, drop from "
    "the original",
    "networks": "the others; recipe fitted, one seed: test accuracy before and after",
}

Runs = Mapping[str, Sequence[Outcome]]
"""By recipe."""


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the table as JSON holds it; figures whose runs are missing are None."""
    table = [each for each in outcomes if each.run.network == MAIN]
    runs = {recipe: [each for each in table if _recipe(each) == recipe] for recipe in (OURS, PAPER)}
    ours, paper = runs[OURS], runs[PAPER]
    runs = {recipe: found for recipe, found in runs.items() if found}
    return {
        "drop_points": _mean(each.original - each.tested for each in ours),
        "steps_ratio": _mean(_ratios(ours, paper)),
        "ours_recovered": _all_recovered(ours),
        "paper_recovered": _all_recovered(paper),
        "accuracy": {
            "original": _mean(each.original for each in table),
            **_by_recipe(runs, lambda each: each.tested),
        },
        "iterations": _by_recipe(runs, lambda each: each.iterations),
        "rows": rows(runs),
        **{
            name: {recipe: _decomposed(found, name) for recipe, found in runs.items()}
            for name in DECOMPOSITIONS
        },
        "seeds": [_seed(each) for each in table],
        "networks": {each.run.network: _network(each) for each in outcomes if each.run.network != MAIN},
    }


def rows(runs: Runs) -> list[dict[str, Any]]:
    """Return a row for the original and one for each step.

    A run that had no need of a step counts with the accuracy it had before and no batches.
    """
    records = [each.merged for found in runs.values() for each in found]
    if not records:
        return []
    longest = max(records, key=lambda record: len(record.steps))
    first = {"name": "original", "accuracy": _by_recipe(runs, lambda each: each.merged.original)}
    return [first, *(_row(step.name, place, runs) for place, step in enumerate(longest.steps))]


def _row(name: str, place: int, runs: Runs) -> dict[str, Any]:
    def iterations(outcome: Outcome) -> int:
        return sum(step.iterations for step in outcome.merged.steps[place : place + 1])

    def is_kept(outcome: Outcome) -> bool:
        return all(step.kept for step in outcome.merged.steps[place : place + 1])

    return {
        "name": name,
        "accuracy": _by_recipe(runs, lambda each: _accuracy_after(each.merged, place)),
        "iterations": _by_recipe(runs, iterations),
        "kept": {recipe: all(map(is_kept, found)) for recipe, found in runs.items()},
    }


def _accuracy_after(record: Retraining, place: int) -> float:
    kept = [step.accuracy for step in record.steps[: place + 1] if step.kept]
    return kept[-1] if kept else record.original


def _ratios(ours: Sequence[Outcome], paper: Sequence[Outcome]) -> list[float]:
    """One for each seed that both were run with."""
    theirs = {each.run.settings.seed: each for each in paper}
    pairs = [(each, theirs[each.run.settings.seed]) for each in ours if each.run.settings.seed in theirs]
    counts = [
        (mine.iterations_to(other.merged.accuracy), other.iterations_to(other.merged.accuracy))
        for mine, other in pairs
    ]
    return [] if any(mine is None for mine, _ in counts) else [mine / other for mine, other in counts]


def _decomposed(outcomes: Sequence[Outcome], name: str) -> dict[str, Any]:
    found = [(each.original, each.decomposed[name]) for each in outcomes if name in each.decomposed]
    return {
        "accuracy": _mean(each.tested for _, each in found),
        "drop_points": _mean(original - each.tested for original, each in found),
        "iterations": _mean(sum(step.iterations for step in each.record.steps) for _, each in found),
        "validation": _mean(each.record.accuracy for _, each in found),
    }


def _seed(outcome: Outcome) -> dict[str, Any]:
    merged, decomposed = outcome.merged, outcome.decomposed
    return {
        "recipe": _recipe(outcome),
        "seed": outcome.run.settings.seed,
        "recovered": outcome.recovered,
        "iterations": outcome.iterations,
        "seconds": round(sum(step.seconds for step in merged.steps)),
        "test": {
            "original": outcome.original,
            "merged": outcome.tested,
            **{name: each.tested for name, each in decomposed.items()},
        },
        "validation": {
            "original": merged.original,
            "merged": merged.accuracy,
            **{name: each.record.accuracy for name, each in decomposed.items()},
        },
    }


def _network(outcome: Outcome) -> dict[str, Any]:
    return {
        "metric": outcome.merged.metric,
        "before": outcome.original,
        "after": outcome.tested,
        "drop_points": outcome.original - outcome.tested,
        "iterations": outcome.iterations,
        "recovered": outcome.recovered,
        "steps": [step.name for step in outcome.merged.steps],
    }


def _by_recipe(runs: Runs, value: Callable[[Outcome], float]) -> dict[str, float | None]:
    return {recipe: _mean(map(value, found)) for recipe, found in runs.items()}


def _all_recovered(outcomes: Sequence[Outcome]) -> bool | None:
    return all(each.recovered for each in outcomes) if outcomes else None


def _recipe(outcome: Outcome) -> str:
    return outcome.run.settings.recipe


def _mean(values: Iterable[float]) -> float | None:
    return mean(found) if (found := list(values)) else None
