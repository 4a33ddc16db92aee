"""What `deploy` refuses of float16 and int8 before anything begins, and a deployment with int8 weights."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import Tuning, deploy
from pipeline.bundle import read_bundle, verify_bundle
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"dtype": "float8"}, "no dtype float8: choose float32 or float16"),
        ({"validation": "val"}, "--validation has no use here"),
        ({"weights": "int4"}, "weights cannot be stored as int4: choose int8, or leave it out"),
        ({"weights": "int8", "dtype": "float8"}, "no dtype float8"),
        ({"dtype": "float16", "target": "cortex-a53"}, "cortex-a53 .* has no float16 arithmetic"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(classifier, tmp_path, given: dict, says: str) -> None:
    how = Tuning(tracker=("127.0.0.1", 9), key="none", database=tmp_path / "d")
    image = torch.from_numpy(np.zeros((1, 3, 8, 8), "float32"))
    with pytest.raises(UserError, match=says) as refused:
        deploy(classifier, example_inputs=image, out=tmp_path / "out", tuning=how, **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_int8_weights_take_a_quarter(tmp_path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 8)).eval()
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype("float32"))
    out = tmp_path / "out"
    how = Tuning(trials=2, database=tmp_path / "d")
    report = deploy(layers, example_inputs=image, out=out, tuning=how, weights="int8").report

    precision, memory = report.precision.merged, report.memory.merged
    assert (precision.dtype, precision.weights, precision.data) == ("float32", "int8", None)
    assert precision.after > 90
    assert memory.stored_weights_bytes < 0.27 * memory.weights_bytes
    assert "int8 weights" in (out / "report.md").read_text("utf-8")
    assert "Weights, as stored" in (out / "report.md").read_text("utf-8")
    for name in ("original", "merged"):
        bundle = read_bundle(out / name)
        assert len(bundle.manifest.int8_weights) == 2
        assert bundle.weights_file.stat().st_size < 0.3 * memory.weights_bytes
        assert any("int8" in notice for notice in bundle.manifest.notices)
        assert {each.dtype for each in bundle.manifest.weights} == {"float32"}
        assert verify_bundle(out / name) <= bundle.manifest.tolerance
        (golden,) = bundle.golden_outputs().values()
        wanted = layers(image).detach().numpy()
        assert 0 < np.abs(golden - wanted).max() < 0.02
