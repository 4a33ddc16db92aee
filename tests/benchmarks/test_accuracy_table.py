"""The program on a few samples, and the table it makes of outcomes with known numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from accuracy import children
from accuracy.run import DECOMPOSITIONS, Decomposed, Outcome, Run
from accuracy.subjects import TRAINED_GOOGLENET
from accuracy.summary import FIGURES, rows, summary

from pipeline import Settings
from pipeline.retraining import DataFacts, Retraining, StepResult
from relay_passes import MergePlan

PROGRAM = Path(__file__).parents[2] / "benchmarks/accuracy_table.py"
DATA = Path("/usr/share/datasets/fashion-mnist")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")

PAPERS_STEPS = ["conv1", "conv2", "inception_3a", "inception_3b", "inception_4a"]
PAPERS_STEPS += ["inception_4b + inception_4c + inception_4d", "inception_4e", "inception_5a", "inception_5b"]


def table(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def step(name: str, accuracy: float, iterations: int, *, kept: bool = True) -> StepResult:
    return StepResult(
        name=name,
        merges=() if name == "finish" else (name,),
        kept=kept,
        before=90,
        started=50,
        accuracy=accuracy,
        looks=((iterations, accuracy),),
        iterations=iterations,
        epochs=1,
        seconds=10,
    )


def outcome(recipe: str, seed: int, *steps: StepResult, tested: float, network: str = "googlenet") -> Outcome:
    settings = Settings(recipe=recipe, seed=seed)
    kept = [each.accuracy for each in steps if each.kept]
    facts = DataFacts(name="data", samples=10, labelled=True)
    merged = Retraining(
        network=network,
        source_digest="sha256:0",
        metric="top-1",
        original=90,
        accuracy=kept[-1],
        training=facts,
        validation=facts,
        settings=settings,
        steps=steps,
        plan=MergePlan(),
    )
    tucker = merged.model_copy(update={"steps": (step("tucker", 88, 7),), "accuracy": 88.0})
    run = Run(network=network, settings=settings, decomposed=True)
    decomposed = dict.fromkeys(DECOMPOSITIONS, Decomposed(record=tucker, tested=87))
    return Outcome(run=run, merged=merged, decomposed=decomposed, original=89, tested=tested, samples=5)


OUTCOMES = (
    outcome("fitted", 0, step("a", 89, 10), step("b", 89.8, 30), tested=88.5),
    outcome("fitted", 1, step("a", 87, 20), step("b", 88, 30), step("finish", 90, 50), tested=89.1),
    outcome(
        "paper", 0, step("a", 80, 100), step("b", 70, 100), step("finish", 9, 200, kept=False), tested=71
    ),
    outcome("paper", 1, step("a", 90, 150), step("b", 90, 50), tested=90),
    outcome("fitted", 0, step("a", 89.9, 4), tested=88.9, network="alexnet"),
)


@needs_data
def test_the_program_on_a_few_samples(tmp_path):
    work = tmp_path / "arbeit ß"
    arguments = ("--work", work, "--samples", 64, "--seeds", 1, "--skip-speedup", "--networks", "googlenet")
    done = table(*arguments, "--recipes", "fitted")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [row["name"] for row in printed["rows"]][1:10] == PAPERS_STEPS
    assert printed["accuracy"]["original"] > 80
    (seed,) = printed["seeds"]
    assert printed["drop_points"] == pytest.approx(seed["test"]["original"] - seed["test"]["merged"])
    assert printed["iterations"]["fitted"] == sum(row["iterations"]["fitted"] for row in printed["rows"][1:])
    assert (printed["steps_ratio"], printed["paper_recovered"], printed["speedup"]) == (None, None, None)
    assert all(printed[name]["fitted"]["iterations"] >= 0 for name in DECOMPOSITIONS)
    assert printed["measured_on"]["machine"]
    assert printed["measured_on"]["data"]["googlenet"] == {"training": 64, "validation": 64, "test": 64}
    for name in DECOMPOSITIONS:
        assert (work / f"64/googlenet_fitted_0/{name}/network.onnx").exists()


def test_figures_are_means_over_the_seeds():
    found = summary(OUTCOMES)
    assert found["drop_points"] == pytest.approx((0.5 - 0.1) / 2)
    assert found["steps_ratio"] == pytest.approx((40 / 200 + 100 / 200) / 2)
    assert OUTCOMES[0].iterations_to(89.9) is None
    assert (found["ours_recovered"], found["paper_recovered"]) == (True, False)
    assert found["accuracy"] == pytest.approx({"original": 89, "fitted": 88.8, "paper": 80.5})
    assert found["iterations"] == {"fitted": 70, "paper": 300}
    for name in DECOMPOSITIONS:
        assert found[name]["paper"] == {"accuracy": 87, "drop_points": 2, "iterations": 7, "validation": 88}
    assert found["networks"].keys() == {"alexnet"}
    assert found["networks"]["alexnet"]["drop_points"] == pytest.approx(0.1)
    assert len(found["seeds"]) == 4
    explained = {name for names in FIGURES for name in names.split(", ")}
    assert explained >= {"drop_points", "steps_ratio", "speedup", *found} - {"iterations", "seeds"}


def test_a_run_that_needed_no_more_counts_with_what_it_had():
    found = rows({"fitted": OUTCOMES[:2], "paper": OUTCOMES[2:4]})
    assert [row["name"] for row in found] == ["original", "a", "b", "finish"]
    assert found[0]["accuracy"] == {"fitted": 90, "paper": 90}
    finish = found[-1]
    assert finish["accuracy"] == pytest.approx({"fitted": (89.8 + 90) / 2, "paper": (70 + 90) / 2})
    assert finish["iterations"] == {"fitted": 25, "paper": 100}
    assert finish["kept"] == {"fitted": True, "paper": False}


def test_figures_without_runs_are_none():
    found = summary(())
    assert found["rows"] == []
    assert {found[name] for name in ("drop_points", "steps_ratio", "ours_recovered", "paper_recovered")} == {
        None
    }


def test_children_run_side_by_side_and_one_that_fails_is_named():
    ends = {name: [sys.executable, "-c", f"print({name!r})"] for name in "abc"}
    assert children.outputs_of(ends, 2) == {name: f"{name}\n" for name in ends}
    with pytest.raises(children.ChildFailed, match=r"failed: bad \(exit code 3"):
        children.outputs_of({**ends, "bad": [sys.executable, "-c", "raise SystemExit(3)"]}, 2)


def test_a_child_ends_with_its_parent():
    code = "from accuracy.children import end_with_parent; end_with_parent(); print(1, flush=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}; import time; time.sleep(60)"],
        cwd=PROGRAM.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline()
    child.stdin.close()
    assert child.wait(timeout=30) == 1
    child.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--networks", "lenet"), 2, "there is no 'lenet'"),
        (("--data", "/nowhere"), 2, "does not hold MNIST's four files"),
    ],
)
def test_refusals(tmp_path, arguments, code, said):
    done = table("--work", tmp_path, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert not done.stdout


def test_the_original_lies_in_the_examples():
    assert TRAINED_GOOGLENET.is_file()
