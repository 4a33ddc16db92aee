"""The command line around a retraining, whose result is made by hand."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import typer

import pipeline.retraining
from pipeline.cli import retrain
from pipeline.cli.main import app, run
from pipeline.retraining import Settings, TrainingProgress, read_result
from relay_passes import Energy

COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    assert run([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line for line in lines if line.startswith("deeprebirth: ")] == lines[-1:]
    return lines[-1]


@pytest.fixture
def calls(
    small_onnx: Path, tmp_path: Path, write_retraining: Callable, monkeypatch: pytest.MonkeyPatch
) -> SimpleNamespace:
    """Puts a result made by hand in the place of a retraining, and keeps what that was called with."""
    kept = SimpleNamespace(model=small_onnx, out=tmp_path / "gelernt ü")

    def stand_in(model: Path, *, show: Callable, **options: object):
        kept.given = options | {"model": model}
        write_retraining(kept.out, small_onnx)
        facts = {"steps": 1, "name": "stem", "iterations": 10, "batches_before": 0, "metric": "top-1"}
        show(TrainingProgress(step=0, iteration=0, original=91.25, wanted=90.85, **facts))
        return read_result(kept.out)

    monkeypatch.setattr(pipeline.retraining, "retrain", stand_in)
    return kept


@pytest.fixture
def labelled(symbolic_onnx: Path, tmp_path: Path) -> Path:
    """Images that the small network tells apart, half of the validation data of its rare classes."""
    images = 10 * np.random.default_rng(0).normal(size=(4000, 3, 8, 8)).astype("float32")
    labels = onnxruntime.InferenceSession(symbolic_onnx).run(None, {"image": images})[0].argmax(1)
    often = np.bincount(labels).argmax()
    rare, common = np.flatnonzero(labels != often)[:20], np.flatnonzero(labels == often)[:20]
    held_out = np.concatenate([rare, common])
    parts = {"x_train": images[2000:], "y_train": labels[2000:]}
    np.savez(tmp_path / "d.npz", **parts, x_test=images[held_out], y_test=labels[held_out])
    return tmp_path / "d.npz"


def test_for_people(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]):
    assert run(["retrain", str(calls.model), "--data", "digits", "-o", str(calls.out)]) == 0
    captured = capsys.readouterr()
    for said in (
        "stem",
        "undone",
        "91.25 -> 91.00, 0.25 points less",
        "399 validation samples",
        "a b.png",
        "written:",
    ):
        assert said in captured.out
    assert "step 1 of 1 stem" in captured.err
    assert calls.given["settings"] == Settings()
    assert calls.given["metric"] == "top-1"
    assert calls.given["request"].retraining
    assert (calls.given["data"], calls.given["validation"]) == ("digits", None)


def test_one_json_object_and_nothing_else(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]):
    assert run(["retrain", str(calls.model), "--data", "digits", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["original"], said["accuracy"], said["drop"]) == (91.25, 91.0, 0.25)
    assert said["file"] == str(calls.out / "network.onnx")


def test_every_option_arrives(calls: SimpleNamespace):
    options = (
        "--validation v --recipe paper --max-drop 1 --epochs 0.5 --batch-size 8 --learning-rate 0.01 "
        "--group 4b,4c*,4d --group 5a,5b --evaluate-every 7 --seed 3 --metric tones:near --loss tones:loss "
        "--preprocessing unit --classes c.txt --threads 1 --checkpoint-minutes 2 --tensorboard logs "
        "--finish-epochs 1.5 --keep-all --mirror --skip fold --energy 0.9 --svd --rank-multiple 4 "
        "--input-shape image:1x3x8x8"
    )
    assert run(["retrain", str(calls.model), "--data", "d", *options.split()]) == 0
    given = calls.given
    assert given["settings"] == Settings(
        recipe="paper",
        max_drop=1,
        epochs=0.5,
        finish_epochs=1.5,
        keep_all=True,
        mirror=True,
        batch_size=8,
        learning_rate=0.01,
        groups=(("4b", "4c*", "4d"), ("5a", "5b")),
        evaluate_every=7,
        seed=3,
    )
    assert (given["metric"], given["loss"], given["preprocessing"]) == ("tones:near", "tones:loss", "unit")
    assert (given["classes"], given["tensorboard"]) == (Path("c.txt"), Path("logs"))
    assert (given["validation"], given["threads"], given["checkpoint_minutes"]) == ("v", 1, 2.0)
    assert given["request"].skip == ("fold",)
    assert given["request"].ranks == Energy(0.9, matrices=True, multiple=4)
    assert given["input_shapes"] == {"image": (1, 3, 8, 8)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--recipe magic", "--recipe magic: the value should be 'fitted' or 'paper'"),
        ("--max-drop -1", "--max-drop -1.0: "),
        ("--max-drop nan", "--max-drop nan: "),
        ("--epochs 0", "--epochs 0.0: the value should be greater than 0"),
        ("--batch-size 0", "--batch-size 0: "),
        ("--batch-size many", "--batch-size"),
        ("--learning-rate 0", "--learning-rate 0.0: "),
        ("--evaluate-every 0", "--evaluate-every 0: "),
        ("--seed -1", "--seed -1: "),
        ("--group a,,b", "--group a,,b: name merges"),
        ("--threads 0", "--threads"),
        ("--checkpoint-minutes -1", "--checkpoint-minutes"),
        ("--energy 0.5 --ratio 0.5", "give one of them"),
    ],
)
def test_wrong_values_are_one_line(
    options: str, says: str, calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]
):
    assert says in told(capsys, "retrain", calls.model, "--data", "d", *options.split())
    assert not hasattr(calls, "given")


def test_no_data_given(calls: SimpleNamespace, capsys: pytest.CaptureFixture[str]):
    assert "--data" in told(capsys, "retrain", calls.model)


def test_only_the_first_process_speaks(
    calls: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "1")
    for more in ([], ["--json"]):
        assert run(["retrain", str(calls.model), "--data", "d", "-o", str(calls.out / "x"), *more]) == 0
        assert capsys.readouterr() == ("", "")
        calls.out = calls.out.with_name("again")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_while_training(number: int, small_onnx: Path, labelled: Path, tmp_path: Path):
    out = tmp_path / "out"
    options = ["--recipe", "paper", "--max-drop", "0", "--epochs", "5000", "--evaluate-every", "100000"]
    command = [*COMMAND, "retrain", small_onnx, "--data", labelled, "-o", out, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "batch" in line:
                os.kill(process.pid, number)
                break
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "the same command goes on from there" in errors.splitlines()[-1]
    assert not (out / "network.onnx").exists()


def test_defaults_in_the_help_are_those_of_the_settings():
    command = typer.main.get_command(app).commands["retrain"]
    said = {
        each.name: match[1]
        for each in command.params
        if (match := re.search(r"by default (fitted|paper|[\d.]+?)\.$", getattr(each, "help", "") or ""))
    }
    defaults = {name: getattr(Settings(), name) for name in said}
    assert {name: type(defaults[name])(text) for name, text in said.items()} == defaults
    assert {"recipe", "max_drop", "epochs", "finish_epochs", "batch_size", "seed"} <= said.keys()


def test_every_setting_has_an_option():
    parameters = retrain.retrain.__annotations__
    assert {"group" if name == "groups" else name for name in Settings.model_fields} <= parameters.keys()


@pytest.mark.parametrize("command", [["inspect"], ["merge", "-o", "m.onnx"], ["export", "--onnx", "e.onnx"]])
def test_a_directory_of_a_retraining_is_a_model(
    command: list[str],
    small_onnx: Path,
    tmp_path: Path,
    write_retraining: Callable,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    write_retraining(tmp_path / "gelernt", small_onnx)
    name, *options = command
    assert run([name, "gelernt", *options, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["plan"]["candidates"] == []
    assert said["original"]["macs"] == 8 * 16 * 27 + 128 * 5


@pytest.mark.parametrize("command", ["inspect", "deploy", "retrain"])
def test_another_directory_is_no_model(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = ["--data", "d"] if command == "retrain" else []
    assert f"{tmp_path} holds no finished retraining" in told(capsys, command, tmp_path, *data)
    (tmp_path / "checkpoint").mkdir()
    assert "holds no finished retraining" in told(capsys, command, tmp_path, *data)


def test_a_damaged_record(
    small_onnx: Path, tmp_path: Path, write_retraining: Callable, capsys: pytest.CaptureFixture[str]
):
    write_retraining(tmp_path / "out", small_onnx)
    (tmp_path / "out" / "retraining.json").write_text("{}")
    assert "is not a retraining" in told(capsys, "inspect", tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--structure-only --data d", "--structure-only and --data contradict"),
        ("--structure-only --retrained d", "--structure-only and --retrained contradict"),
        ("--retrained d --data d", "--retrained and --data contradict"),
        ("--retrained d --only stem", "--only has no use here"),
        ("--retrained d --tucker", "--tucker has no use here"),
        ("--retrained nowhere", "nowhere holds no finished retraining"),
        ("--validation d", "--validation has no use here: it is for retraining, which needs --data"),
        ("--max-drop 1", "--max-drop has no use here"),
        ("--max-drop 0", "--max-drop has no use here"),
        ("--data d --max-drop -1", "--max-drop -1.0: "),
        ("--data nowhere", "nowhere"),
        ("--weights int4", "weights cannot be stored as int4: choose int8"),
        ("--weights int8 --validation nowhere", "nowhere"),
        ("--weights int8 --metric top-5", "--metric has no use here"),
    ],
)
def test_contradictions_of_deploy(
    options: str,
    says: str,
    small_onnx: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    places = ["--out", "out", "--database", "db", "--trials", "1"]
    assert says in told(capsys, "deploy", small_onnx, *places, *options.split())
    assert not (tmp_path / "out").exists()
