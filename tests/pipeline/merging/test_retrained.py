from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipeline.errors import UserError
from pipeline.importer import load_network
from pipeline.merging.retrained import retrained_network
from pipeline.retraining.result import read_result
from relay_passes import reborn_layers


def test_reads_what_the_file_computes(small_onnx: Path, tmp_path: Path, write_retraining: Callable):
    directory = tmp_path / "gelernt ü"
    record = write_retraining(directory, small_onnx)
    original = load_network(small_onnx)
    merged = retrained_network(read_result(directory), original)

    assert merged.plan == record.plan
    assert not reborn_layers(merged.module)
    assert merged.check.passed
    assert "onnxruntime" in merged.check.against
    session = onnxruntime.InferenceSession(directory / "network.onnx")
    expected = session.run(None, original.golden.inputs)
    np.testing.assert_allclose(merged.reference["classes"], expected[0], atol=1e-6)
    assert np.abs(expected[0] - original.golden.outputs["classes"]).max() > 1e-3


def test_untrained_layers_stay_marked(small_onnx: Path, tmp_path: Path, write_retraining: Callable):
    write_retraining(tmp_path / "out", small_onnx, trained=False)
    merged = retrained_network(read_result(tmp_path / "out"), load_network(small_onnx))
    assert reborn_layers(merged.module) == ["stem"]


def test_of_another_network(
    small_onnx: Path, tmp_path: Path, write_retraining: Callable, write_small_onnx: Callable
):
    write_retraining(tmp_path / "out", small_onnx)
    other = load_network(
        write_small_onnx(tmp_path / "other.onnx", batch="N"), input_shapes={"image": (1, 3, 8, 8)}
    )
    with pytest.raises(UserError, match="is the retraining of another network") as error:
        retrained_network(read_result(tmp_path / "out"), other)
    assert "\n" not in str(error.value)


def test_for_another_size(tmp_path: Path, symbolic_onnx: Path, write_retraining: Callable):
    write_retraining(tmp_path / "out", symbolic_onnx, input_shapes={"image": (1, 3, 8, 8)})
    original = load_network(symbolic_onnx, input_shapes={"image": (2, 3, 8, 8)})
    with pytest.raises(UserError, match="--input-shape"):
        retrained_network(read_result(tmp_path / "out"), original)
