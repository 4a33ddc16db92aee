import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.cli.main import run
from pipeline.exporter.operators import OPERATORS


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    assert run(["export", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deeprebirth: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_for_people(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.onnx"
    assert run(["export", str(small_onnx), "--onnx", str(out)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("norm", "exact", "largest difference", str(out)))
    assert "timing only" not in shown
    onnx.checker.check_model(out, full_check=True)


def test_for_timing_only(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.onnx"
    assert run(["export", str(small_onnx), "--onnx", str(out), "--structure-only"]) == 0
    shown = capsys.readouterr().out
    assert "for timing only: 1 reborn layer is not trained" in shown
    assert "not trained" in shown


def test_nothing_to_merge(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    assert run(["export", str(small_onnx), "--onnx", str(first)]) == 0
    capsys.readouterr()
    assert run(["export", str(first), "--onnx", str(second)]) == 0
    assert "Nothing was merged" in capsys.readouterr().out
    onnx.load(second)


def test_one_json_object_and_nothing_else(
    small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "netz ü.onnx"
    assert run(["export", str(small_onnx), "--onnx", str(out), "--structure-only", "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["path"] == str(out)
    assert said["reborn"] == ["stem"]
    assert [merge["kind"] for merge in said["plan"]["candidates"]] == ["fold", "streamline"]
    assert all(check["passed"] for check in said["verification"])
    assert captured.err == ""


def test_chosen_merges(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--onnx", str(tmp_path / "out.onnx"), "--structure-only", "--skip", "streamline", "--json"]
    assert run(["export", str(small_onnx), *arguments]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["reborn"], [merge["name"] for merge in said["plan"]["candidates"]]) == ([], ["norm"])


def test_an_open_size(symbolic_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out.onnx"
    assert "--input-shape" in told(capsys, symbolic_onnx, "--onnx", out)
    assert not out.exists()
    assert run(["export", str(symbolic_onnx), "--onnx", str(out), "--input-shape", "image:2x3x8x8"]) == 0
    assert onnx.load(out).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_no_place_given(small_onnx: Path, capsys: pytest.CaptureFixture[str]):
    assert "--onnx" in told(capsys, small_onnx)


def test_a_directory_as_the_file(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").mkdir()
    assert "is a directory" in told(capsys, small_onnx, "--onnx", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_model_as_the_file(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = small_onnx.read_bytes()
    (tmp_path / "link.onnx").symlink_to(small_onnx)
    for place in (small_onnx, tmp_path / "link.onnx"):
        assert "is the model itself" in told(capsys, small_onnx, "--onnx", place)
    assert small_onnx.read_bytes() == before


def test_a_file_in_the_way(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert "file is in the way" in told(capsys, small_onnx, "--onnx", tmp_path / "file" / "out.onnx")


def test_no_file_at_all(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in told(capsys, small_onnx, "--onnx", tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_without_permission(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot write" in told(capsys, small_onnx, "--onnx", tmp_path / "locked" / "out.onnx")


def test_a_name_that_is_too_long(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "cannot write" in told(capsys, small_onnx, "--onnx", tmp_path / ("n" * 300))
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_bad_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "poem.onnx").write_text("Roses are red\n")
    out = tmp_path / "out.onnx"
    assert "poem.onnx" in told(capsys, tmp_path / "poem.onnx", "--onnx", out)
    assert "nowhere.onnx" in told(capsys, tmp_path / "nowhere.onnx", "--onnx", out)
    assert not out.exists()


def test_unsupported_operators_are_all_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first"),
        helper.make_node("Tanh", ["a"], ["b"], "squash"),
        helper.make_node("Sin", ["b"], ["y"], "wave"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 3, 1, 1), "float32"), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    monkeypatch.delitem(OPERATORS, "tanh")
    monkeypatch.delitem(OPERATORS, "sin")
    line = told(capsys, tmp_path / "m.onnx", "--onnx", tmp_path / "out.onnx")
    assert "tanh in" in line
    assert "sin in" in line
    assert not (tmp_path / "out.onnx").exists()
