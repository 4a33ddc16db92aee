"""What a retraining leaves is found again, if it is the one that was asked for."""

from __future__ import annotations

import pytest

from pipeline.data import Preprocessing
from pipeline.errors import UserError
from pipeline.retraining import Retraining, Settings, StepResult
from pipeline.retraining.checkpoint import Identity
from pipeline.retraining.records import DataFacts
from pipeline.retraining.result import find_result, read_result
from relay_passes import MergePlan


def step(name: str, *merges: str) -> StepResult:
    numbers = {"before": 91.0, "started": 40.0, "accuracy": 90.5, "iterations": 9, "epochs": 1, "seconds": 2}
    return StepResult(name=name, merges=merges, kept=True, **numbers)


@pytest.fixture
def record() -> Retraining:
    return Retraining(
        network="klein",
        source_digest="sha256:0",
        metric="top-1",
        original=91.0,
        accuracy=90.5,
        training=DataFacts(name="train", samples=9, labelled=True),
        validation=DataFacts(name="val", samples=9, labelled=True),
        settings=Settings(),
        steps=(step("conv1", "conv1"), step("a + b", "a", "b"), step("finish")),
        plan=MergePlan(),
    )


@pytest.fixture
def written(record, tmp_path):
    (tmp_path / "network.onnx").write_bytes(b"onnx")
    (tmp_path / "retraining.json").write_text(record.model_dump_json())
    return tmp_path


def identity(**changes) -> Identity:
    given = {
        "source_digest": "sha256:0",
        "settings": Settings(),
        "metric": "top-1",
        "training": "train",
        "validation": "val",
        "steps": ("conv1", "a + b"),
    }
    return Identity(**given | changes)


def test_found_again(written, record):
    found = find_result(written, identity())
    assert found == read_result(written)
    assert found.record == record
    assert found.record.drop == 0.5
    assert found.network == written / "network.onnx"


@pytest.mark.parametrize(
    "changes",
    [
        {"source_digest": "sha256:1"},
        {"settings": Settings(seed=1)},
        {"metric": "top-5"},
        {"training": "other"},
        {"validation": "other"},
        {"preprocessing": Preprocessing(size=(8, 8))},
        {"loss": "mine:loss"},
        {"ranks": "Ratio(share=0.5)"},
        {"steps": ("conv1",)},
        {"steps": ("conv1", "a + b", "tucker")},
    ],
)
def test_another_one_is_refused(written, changes):
    with pytest.raises(UserError, match=r"holds another retraining, of klein .*: give another --out"):
        find_result(written, identity(**changes))


@pytest.mark.parametrize("missing", ["network.onnx", "retraining.json"])
def test_half_a_result_is_none(written, missing):
    (written / missing).unlink()
    assert find_result(written, identity()) is None
    with pytest.raises(UserError, match="holds no finished retraining"):
        read_result(written)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", '{"schema_version": 2}'])
def test_a_damaged_record(written, text):
    (written / "retraining.json").write_text(text)
    with pytest.raises(UserError, match=r"retraining\.json"):
        find_result(written, identity())
