"""The paper's table: accuracy and training after each merge step, by our recipe and by the paper's.

GoogLeNet on Fashion-MNIST (`examples/fashion_googlenet.onnx`) is merged in the paper's nine steps and
retrained after each, by both recipes and with several seeds, then decomposed (Tucker, the tenth). AlexNet,
ResNet and a pitch tracker follow by our recipe. At the end, when nothing else runs, the original and the
fully merged GoogLeNet are tuned and timed.

    python benchmarks/accuracy_table.py --work DIR [--seeds 3] [--recipes fitted,paper] [--networks ...]

Prints one JSON object; what each figure means stands in it under `figures`. Runs are kept in DIR: the same
command goes on with what was broken off.
"""

import argparse
import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from accuracy.children import ChildFailed, end_with_parent, outputs_of

SETTINGS = {"epochs": 0.5, "finish_epochs": 6.0, "evaluate_every": 100, "batch_size": 64, "keep_all": True}
"""Of both recipes; the fields of `pipeline.Settings`."""
TIMES_EPOCHS = {"fitted": 1, "paper": 3}
"""How many times as many epochs a recipe may take."""
MAIN, OTHERS = "googlenet", ("alexnet", "resnet", "crepe")


def main() -> None:
    """Retrain, test, time and print."""
    options = _options()
    if options.run:
        end_with_parent()
        print(_carried_out(options.run, options.work))
        return
    from pipeline.errors import UserError

    try:
        print(json.dumps(_table(options), indent=2))
    except (UserError, ChildFailed) as error:
        print(error, file=sys.stderr)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="a directory for all that is made")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default: 3)")
    parser.add_argument("--recipes", default="fitted,paper", help="default: fitted,paper")
    parser.add_argument("--networks", default=",".join((MAIN, *OTHERS)), help="default: all four")
    parser.add_argument("--samples", type=int, help="at most so many of each part of the data; default: all")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs at a time (default: all cores)"
    )
    parser.add_argument("--skip-speedup", action="store_true", help="do not tune and time the networks")
    parser.add_argument("--trials", type=int, default=200, help="for each network (default: 200)")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.recipes, options.networks = options.recipes.split(","), options.networks.split(",")
    if unknown := {*options.recipes} - {*TIMES_EPOCHS} | {*options.networks} - {MAIN, *OTHERS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def _table(options: argparse.Namespace) -> dict[str, Any]:
    from accuracy.run import Outcome, merged_in
    from accuracy.speedup import measured_speedup
    from accuracy.subjects import SUBJECTS, model_of, write_data
    from accuracy.summary import FIGURES, summary

    import targets

    folder = options.work / str(options.samples or "all")
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        write_data(SUBJECTS[name], folder, options.data, options.samples)
    runs = _runs(options)
    program = [sys.executable, __file__, "--work", os.fspath(folder), "--run"]
    commands = {run.label: [*program, run.model_dump_json()] for run in runs}
    printed = outputs_of(commands, options.jobs)
    outcomes = [Outcome.model_validate_json(each) for each in printed.values()]
    timed = {"speedup": None, "speedup_note": "not measured"}
    ours = next((run for run in runs if (run.network, run.settings.recipe) == (MAIN, "fitted")), None)
    if ours is not None and not options.skip_speedup:
        timed = measured_speedup(model_of(MAIN, folder), merged_in(ours, folder), folder, options.trials)
    return {
        **summary(outcomes),
        **timed,
        "figures": FIGURES,
        "settings": {**SETTINGS, "times_epochs": TIMES_EPOCHS},
        "measured_on": {
            "machine": targets.find("host").measured_on(),
            "data": {each.run.network: _samples(each) for each in outcomes},
            "versions": {name: metadata.version(name) for name in ("apache-tvm", "torch", "onnxruntime")},
        },
    }


def _runs(options: argparse.Namespace) -> list[Any]:
    """All runs, the longest first."""
    from accuracy.run import Run

    recipes = sorted(options.recipes, key=TIMES_EPOCHS.get, reverse=True)
    main = [(MAIN, recipe, seed) for recipe in recipes for seed in range(options.seeds)]
    others = [(name, "fitted", 0) for name in OTHERS]
    return [
        Run(network=network, settings=_settings(recipe, seed), decomposed=network == MAIN)
        for network, recipe, seed in (*main, *others)
        if network in options.networks
    ]


def _settings(recipe: str, seed: int) -> Any:
    from pipeline import Settings

    times = TIMES_EPOCHS[recipe]
    longer = {name: times * SETTINGS[name] for name in ("epochs", "finish_epochs")}
    return Settings(recipe=recipe, seed=seed, **{**SETTINGS, **longer})


def _carried_out(run: str, folder: Path) -> str:
    from accuracy.run import Run, carry_out

    return carry_out(Run.model_validate_json(run), folder).model_dump_json()


def _samples(outcome: Any) -> dict[str, Any]:
    record = outcome.merged
    return {
        "training": record.training.samples,
        "validation": record.validation.samples,
        "test": outcome.samples,
    }


if __name__ == "__main__":
    main()
