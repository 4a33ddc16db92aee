import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.retraining.progress import TrainingProgress
from pipeline.tensorboard import Writer


@pytest.fixture
def _tensorboard():
    pytest.importorskip("tensorboard", reason="tensorboard is optional: pip install tensorboard")


def update(step: int, iteration: int, **known: object) -> TrainingProgress:
    facts = {
        "steps": 3,
        "name": "stem",
        "iterations": 10,
        "original": 90.0,
        "wanted": 89.6,
        "metric": "top-1",
        "batches_before": 10 * step,
    }
    return TrainingProgress(step=step, iteration=iteration, **facts, **known)


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a directory."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return {
        tag: [(each.step, pytest.approx(each.value, abs=1e-6)) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.usefixtures("_tensorboard")
def test_writes_what_is_known(tmp_path: Path):
    directory = tmp_path / "journal ü" / "1"
    writer = Writer(directory)
    writer(update(0, 0))
    writer(update(0, 4, loss=2.0, losses={"feature": 1.5, "label": 0.5}, accuracy=50.0, learning_rate=0.1))
    writer(update(1, 3, loss=1.0))
    assert scalars(directory) == {
        "loss": [(4, 2.0), (13, 1.0)],
        "loss/feature": [(4, 1.5)],
        "loss/label": [(4, 0.5)],
        "accuracy/top-1": [(4, 50.0)],
        "learning rate": [(4, 0.1)],
    }


@pytest.mark.usefixtures("_tensorboard")
def test_the_training_after_all_steps_comes_last(tmp_path: Path):
    writer = Writer(tmp_path)
    for step, iteration, iterations in ((0, 10, 10), (1, 10, 10), (2, 1, 4), (2, 3, 4)):
        writer(replace(update(step, iteration, loss=1.0), iterations=iterations))
    assert [place for place, _ in scalars(tmp_path)["loss"]] == [10, 20, 21, 23]


@pytest.mark.usefixtures("_tensorboard")
def test_goes_on_where_a_killed_process_stopped(tmp_path: Path):
    killed = Writer(tmp_path)
    for iteration in (2, 4, 6):
        killed(update(0, iteration, loss=float(iteration)))
    again = Writer(tmp_path)
    again(update(0, 4, loss=40.0))
    again(update(0, 6, loss=60.0))
    assert scalars(tmp_path)["loss"] == [(2, 2.0), (4, 40.0), (6, 60.0)]


@pytest.mark.usefixtures("_tensorboard")
def test_nothing_is_made_before_the_first_state(tmp_path: Path):
    Writer(tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


@pytest.mark.usefixtures("_tensorboard")
def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="file is in the way"):
        Writer(tmp_path / "logs")


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        Writer(tmp_path)
