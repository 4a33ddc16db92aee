"""The paper's table: accuracy and training after each merge step, by our recipe and by the paper's.

GoogLeNet on Fashion-MNIST (`examples/fashion_googlenet.onnx`) is merged in the paper's nine steps and
retrained after each, by both recipes and with several seeds, then decomposed (the tenth, in several ways).
AlexNet, ResNet and a pitch tracker follow by our recipe. At the end, when nothing else runs, the original
and the fully merged GoogLeNet are tuned and timed.

    python benchmarks/accuracy_table.py --work DIR [--seeds 3] [--recipes fitted,paper] [--networks ...]

Prints one JSON object; what each figure means stands in it under `figures`. Runs are kept in DIR: the same
command goes on with what was broken off.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from accuracy.children import ChildFailed, end_with_parent, outputs_of
from accuracy.run import Outcome, Run, carry_out, merged_in
from accuracy.speedup import measured_speedup
from accuracy.subjects import SUBJECTS, model_of, write_data
from accuracy.summary import FIGURES, MAIN, OURS, PAPER, summary

import targets
from pipeline import Settings
from pipeline.errors import UserError

SETTINGS = {"evaluate_every": 286, "batch_size": 96, "keep_all": True}
"""Of both recipes; fields of `pipeline.Settings`."""
BUDGETS = {
    OURS: {"max_drop": 0.2, "epochs": 0.25, "finish_epochs": 12.0},
    PAPER: {"max_drop": 0.4, "epochs": 14.25 / 9, "finish_epochs": 0.0},
}
"""As many epochs for each in GoogLeNet's nine steps; the paper's recipe knows no training after them. Ours
ends when half of `max_drop` is lost on the validation samples: less than is allowed on the test samples."""
PACKAGES = ("apache-tvm", "onnxruntime", "torch")


def main() -> None:
    """Retrain, test, time and print."""
    options = _options()
    try:
        if options.run is None:
            print(json.dumps(_table(options), indent=2))
        else:
            end_with_parent()
            print(carry_out(Run.model_validate_json(options.run), options.work).model_dump_json())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except ChildFailed as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--work", type=Path, required=True, help="a directory for all that is made")
    add("--seeds", type=_positive, default=3, help="how many, from 0 on (default: 3)")
    add("--recipes", type=_some_of(BUDGETS), default=list(BUDGETS), help="default: fitted,paper")
    add("--networks", type=_some_of(SUBJECTS), default=list(SUBJECTS), help="default: all four")
    add("--samples", type=_positive, help="at most so many of each part of the data (default: all)")
    add("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    add("--jobs", type=_positive, default=os.cpu_count(), help="runs at a time (default: as many as cores)")
    add("--skip-speedup", action="store_true", help="do not tune and time the networks")
    add("--trials", type=_positive, default=200, help="for each of the two networks (default: 200)")
    add("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}: give at least 1")
    return number


def _some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}: give some of {','.join(known)}")
        return list(dict.fromkeys(text.split(",")))

    return names


def _table(options: argparse.Namespace) -> dict[str, Any]:
    folder = options.work / str(options.samples or "all")
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        write_data(SUBJECTS[name], folder, options.data, options.samples)
    runs = _runs(options)
    outcomes = _outcomes(runs, folder, options.jobs)
    timed = {"speedup": None, "speedup_note": "not measured"}
    ours = next((run for run in runs if (run.network, run.settings.recipe) == (MAIN, OURS)), None)
    if ours is not None and not options.skip_speedup:
        timed = measured_speedup(model_of(MAIN, folder), merged_in(ours, folder), folder, options.trials)
    return {
        **summary(outcomes),
        **timed,
        "figures": FIGURES,
        "settings": {**SETTINGS, **BUDGETS},
        "measured_on": {
            "machine": targets.find("host").measured_on(),
            "data": {each.run.network: each.counts for each in outcomes},
            "versions": {name: metadata.version(name) for name in PACKAGES},
        },
    }


def _runs(options: argparse.Namespace) -> list[Run]:
    """All runs, GoogLeNet's first."""
    main_runs = [(MAIN, recipe, seed) for seed in range(options.seeds) for recipe in options.recipes]
    others = [(name, OURS, 0) for name in SUBJECTS if name != MAIN]
    return [
        Run(network=network, settings=_settings(recipe, seed), decomposed=(network, recipe) == (MAIN, OURS))
        for network, recipe, seed in (*main_runs, *others)
        if network in options.networks
    ]


def _settings(recipe: str, seed: int) -> Settings:
    return Settings(**SETTINGS, **BUDGETS[recipe], recipe=recipe, seed=seed)


def _outcomes(runs: Sequence[Run], folder: Path, jobs: int) -> list[Outcome]:
    """Carry out each run in a process of its own."""
    program = [sys.executable, __file__, "--work", os.fspath(folder), "--run"]
    commands = {run.label: [*program, run.model_dump_json()] for run in runs}
    return [Outcome.model_validate_json(printed) for printed in outputs_of(commands, jobs).values()]


if __name__ == "__main__":
    main()
