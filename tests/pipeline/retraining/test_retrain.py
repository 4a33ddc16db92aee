"""Retraining from a file and data to the files it leaves; broken off and gone on with."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.data import open_data
from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging import MergeRequest, merge_network
from pipeline.retraining import Retrained, Settings, TrainingFailed, TrainingProgress, retrain
from pipeline.twin import Twin
from relay_passes import Kind, Ratio, Reason, reborn_layers

QUICK = Settings(epochs=2, batch_size=32, max_drop=2)
LONG = QUICK.model_copy(update={"max_drop": 0.0, "keep_all": True, "finish_epochs": 1, "evaluate_every": 4})
"""Uses up what a step may take, unless the accuracy is back."""

SCRIPT = """
import os, signal, sys
from pipeline.retraining import Settings, retrain

model, data, out, settings, step, iteration = sys.argv[1:]

def show(progress):
    if (progress.step, progress.iteration) == (int(step), int(iteration)):
        os.kill(os.getpid(), signal.SIGKILL)

retrain(model, data=data, out=out, settings=Settings.model_validate_json(settings), threads=1,
        checkpoint_minutes=0, show=show)
"""


def accuracy_of(network: Path, data: Path) -> float:
    """Top-1 in per cent, computed without the product's loop."""
    loaded = load_network(network)
    source = open_data(data, None, loaded).validation
    batch = source.fetch(range(len(source)), None)
    with torch.no_grad():
        right = Twin(loaded.module)(*batch.inputs)[0].argmax(1) == batch.labels
    return 100 * float(right.double().mean())


def same_results(left: Retrained, right: Retrained) -> None:
    """All numbers but the seconds, and the network to the bit."""
    for one, other in zip(left.record.steps, right.record.steps, strict=True):
        assert one.model_copy(update={"seconds": 0}) == other.model_copy(update={"seconds": 0})
    rest = {"steps": ()}
    assert left.record.model_copy(update=rest) == right.record.model_copy(update=rest)
    assert left.network.read_bytes() == right.network.read_bytes()


@pytest.fixture(scope="module")
def kept_all(files, tmp_path_factory: pytest.TempPathFactory) -> Retrained:
    """All merges of the small GoogLeNet, trained to the end whatever comes of it."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    return retrain(files.inception, data=files.data, out=out, settings=LONG, threads=1)


def test_what_it_leaves(files, tmp_path):
    out, shown = tmp_path / "gelernt ü", []
    done = retrain(files.chain, data=files.data, out=out, settings=QUICK, threads=1, show=shown.append)
    assert sorted(each.name for each in out.iterdir()) == ["network.onnx", "retraining.json"]
    record = done.record
    assert json.loads((out / "retraining.json").read_text()) == record.model_dump(mode="json")
    assert [step.name for step in record.steps] == ["conv1", "conv2"]
    assert all(step.kept for step in record.steps)
    assert record.drop <= 2
    assert (record.training.samples, record.validation.samples) == (192, 96)
    assert record.original == pytest.approx(accuracy_of(files.chain, files.data))
    assert record.accuracy == pytest.approx(accuracy_of(done.network, files.data))
    assert [each.kind for each in record.plan.candidates] == [Kind.STREAMLINE] * 2
    shown = [progress for progress in shown if progress.losses]
    for progress in shown:
        assert set(progress.losses) == {"feature", "distillation", "label"}
        assert progress.loss == pytest.approx(sum(progress.losses.values()))
    assert sum(step.iterations for step in record.steps) == len(shown)


def test_the_network_written_is_the_merged_one_and_trained(files, kept_all):
    onnx.checker.check_model(onnx.load(kept_all.network))
    again = load_network(kept_all.network)
    assert reborn_layers(again.module) == []
    merged = merge_network(load_network(files.inception), MergeRequest(retraining=True))
    shapes = [tuple(each.shape) for each in Twin(merged.module).parameters()]
    assert [tuple(each.shape) for each in Twin(again.module).parameters()] == shapes
    made = {each.place: each.layers for each in kept_all.record.plan.candidates}
    assert made == {each.place: each.layers for each in merged.plan.candidates}


def test_each_step_has_its_numbers(kept_all):
    steps = kept_all.record.steps
    assert [step.name for step in steps][:3] == ["conv1", "block_a", "block_b"]
    assert [step.merges for step in steps][:3] == [("conv1",), ("block_a", "pool2"), ("block_b",)]
    before = kept_all.record.original
    for step in steps:
        assert step.before == before
        assert step.kept
        assert step.epochs == pytest.approx(step.iterations / 6)
        before = step.accuracy
    assert kept_all.record.accuracy == before


def test_a_finished_run_is_not_run_again(files, kept_all, monkeypatch):
    monkeypatch.setattr(sys.modules["pipeline.retraining.retrain"], "Retrainer", None)
    again = retrain(files.inception, data=files.data, out=kept_all.directory, settings=LONG, threads=1)
    assert again == kept_all


@pytest.mark.parametrize(
    "other",
    [
        {"settings": QUICK},
        {"metric": "agreement"},
        {"request": MergeRequest(retraining=True, only=("conv1",))},
    ],
)
def test_another_run_in_the_same_place_is_refused(files, kept_all, other):
    given = {"settings": LONG, "threads": 1, **other}
    with pytest.raises(UserError, match=r"holds another retraining.*--out"):
        retrain(files.inception, data=files.data, out=kept_all.directory, **given)


def test_a_step_that_does_not_recover_is_undone(files, tmp_path):
    """Labels that say nothing: no accuracy comes back with them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (64, 16, 16), dtype=np.uint8)
    good = np.load(files.data)
    np.savez(
        tmp_path / "noise.npz",
        x_train=x,
        y_train=rng.integers(0, 3, 64),
        x_test=good["x_test"],
        y_test=good["y_test"],
    )
    settings = Settings(recipe="paper", epochs=1, batch_size=32, max_drop=0)
    out = tmp_path / "out"
    done = retrain(files.inception, data=tmp_path / "noise.npz", out=out, settings=settings, threads=1)
    record = done.record
    assert not any(step.kept for step in record.steps)
    assert all(
        "below the original's" in step.reason and "after 1 epochs" in step.reason for step in record.steps
    )
    assert record.accuracy == record.original == pytest.approx(accuracy_of(done.network, files.data))
    undone = [each for each in record.plan.refusals if each.reason is Reason.NOT_RECOVERED]
    assert sorted(each.name for each in undone) == ["block_a", "block_b", "conv1", "pool2"]
    assert record.plan.candidates == ()


def test_data_without_labels(files, tmp_path):
    shown: list[TrainingProgress] = []
    done = retrain(
        files.inception,
        data=files.unlabelled,
        out=tmp_path / "out",
        settings=QUICK.model_copy(update={"keep_all": True}),
        metric="agreement",
        threads=1,
        show=shown.append,
    )
    assert done.record.original == 100
    assert not done.record.training.labelled
    assert all(set(progress.losses) == {"feature", "distillation"} for progress in shown if progress.losses)


def test_the_papers_recipe(files, tmp_path):
    shown: list[TrainingProgress] = []
    settings = Settings(recipe="paper", epochs=2, batch_size=32, keep_all=True, learning_rate=0.01)
    done = retrain(
        files.chain, data=files.data, out=tmp_path / "out", settings=settings, threads=1, show=shown.append
    )
    assert all(set(progress.losses) == {"label"} for progress in shown if progress.losses)
    assert [step.iterations for step in done.record.steps] == [12, 12]
    assert [step.kept for step in done.record.steps] == [True, True]


def test_the_papers_recipe_needs_labels(files, tmp_path):
    with pytest.raises(UserError, match="learns from labels alone"):
        retrain(
            files.chain,
            data=files.unlabelled,
            out=tmp_path / "out",
            settings=Settings(recipe="paper"),
            metric="agreement",
            threads=1,
        )


def test_groups_and_ranks(files, tmp_path):
    """Both blocks at once, then every convolution in two or three."""
    done = retrain(
        files.inception,
        data=files.data,
        out=tmp_path / "out",
        settings=LONG.model_copy(update={"groups": (("block_*",),), "epochs": 0.5, "finish_epochs": 0.0}),
        request=MergeRequest(retraining=True, ranks=Ratio(0.5)),
        threads=1,
    )
    assert [step.name for step in done.record.steps] == ["conv1", "block_a + block_b", "tucker"]
    assert done.record.plan.decompositions
    assert done.record.accuracy == pytest.approx(accuracy_of(done.network, done.record.training.name))


def test_a_user_s_loss_and_metric(files, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def loss(logits, labels):\n    return torch.nn.functional.cross_entropy(logits, labels) * 2\n"
        "def score(outputs, labels):\n    return (outputs.argmax(1) == labels).float()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = retrain(
        files.chain,
        data=files.data,
        out="out",
        settings=QUICK,
        metric="mine:score",
        loss="mine:loss",
        threads=1,
    )
    assert done.record.metric == "mine:score"
    assert 0.9 < done.record.accuracy <= 1


class Break(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(
    ("step", "iteration", "error"),
    [(0, 2, Break), (1, 3, KeyboardInterrupt), (1, 12, Break), (2, 4, Break), (3, 2, Break)],
)
def test_broken_off_and_gone_on_with(files, kept_all, tmp_path, step, iteration, error):
    """To the bit what an unbroken run gives."""

    def show(progress: TrainingProgress) -> None:
        if (progress.step, progress.iteration) == (step, iteration):
            raise error

    given = {"data": files.data, "out": tmp_path / "out", "settings": LONG, "threads": 1}
    with pytest.raises(error):
        retrain(files.inception, **given, checkpoint_minutes=0, show=show)
    assert (tmp_path / "out" / "checkpoint" / "state.pt").exists()
    same_results(retrain(files.inception, **given), kept_all)
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_killed_and_gone_on_with(files, kept_all, tmp_path):
    """kill -9 in the middle of a step, with a file that was being written."""
    out = tmp_path / "out"
    arguments = [str(each) for each in (files.inception, files.data, out, LONG.model_dump_json(), 1, 7)]
    child = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], timeout=120, check=False)
    assert child.returncode == -signal.SIGKILL
    (out / "checkpoint" / ".0123456789abcdef.tmp").write_bytes(b"half")
    same_results(retrain(files.inception, data=files.data, out=out, settings=LONG, threads=1), kept_all)
    assert sorted(each.name for each in out.iterdir()) == ["network.onnx", "retraining.json"]


def test_a_checkpoint_of_other_settings(files, tmp_path):
    def show(progress: TrainingProgress) -> None:
        if progress.iteration == 2:
            raise Break

    given = {"data": files.data, "out": tmp_path / "out", "threads": 1}
    with pytest.raises(Break):
        retrain(files.inception, **given, settings=LONG, checkpoint_minutes=0, show=show)
    with pytest.raises(UserError, match=r"with batch size 32, not 16: give the same again, or another --out"):
        retrain(files.inception, **given, settings=LONG.model_copy(update={"batch_size": 16}))


def test_numbers_that_are_not_finite(files, tmp_path):
    """The loss explodes; what was kept before stays in the checkpoint."""
    settings = LONG.model_copy(update={"learning_rate": 1e30, "max_drop": 0})
    with pytest.raises(TrainingFailed, match=r"layer .*--learning-rate"):
        retrain(files.inception, data=files.data, out=tmp_path / "out", settings=settings, threads=1)
    assert not (tmp_path / "out" / "network.onnx").exists()


def test_nothing_to_retrain(files, write: Callable[..., Path], tmp_path):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = write(plain.eval(), tmp_path / "plain.onnx")
    with pytest.raises(UserError, match="there is nothing to retrain"):
        retrain(model, data=files.data, out=tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


class Mixed(nn.Module):
    """Reads an image as two samples of half the size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.dense = nn.Linear(2 * 4 * 4 * 8, 3)

    def forward(self, x):
        halves = x.reshape(2, 1, 8, 16)
        return self.dense(nn.functional.max_pool2d(self.conv(halves).relu(), 2).reshape(1, -1))


def test_samples_that_are_mixed(files, write: Callable[..., Path], tmp_path):
    torch.manual_seed(0)
    model = write(Mixed().eval(), tmp_path / "mixed.onnx")
    with pytest.raises(UserError, match="cannot be retrained in batches: layer reshape"):
        retrain(model, data=files.data, out=tmp_path / "out", threads=1)


def test_an_operator_that_cannot_be_trained(files, tmp_path):
    """It is named before anything is written."""
    model = onnx.load(files.chain)
    (last,) = (node for node in model.graph.node if node.output[0] == model.graph.output[0].name)
    last.output[0] = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "axis"))
    model.graph.node.append(
        onnx.helper.make_node("CumSum", ["before", "axis"], [model.graph.output[0].name], "sums")
    )
    onnx.save(model, tmp_path / "sums.onnx")
    with pytest.raises(UserError, match=r"(?i)cumsum.*sums"):
        retrain(tmp_path / "sums.onnx", data=files.data, out=tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


def test_no_labels_for_a_metric_that_needs_them(files, tmp_path):
    with pytest.raises(UserError, match="labelled data"):
        retrain(files.chain, data=files.unlabelled, out=tmp_path / "out", threads=1)


def test_mirrored_samples(files, tmp_path):
    settings = QUICK.model_copy(update={"mirror": True, "epochs": 0.5})
    done = retrain(files.chain, data=files.data, out=tmp_path / "out", settings=settings, threads=1)
    assert done.record.settings.mirror
