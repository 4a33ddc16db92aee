import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.cli.main import run

GOOGLENET = Path(__file__).parents[3] / "examples/fashion_googlenet.onnx"
COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    assert run([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deeprebirth: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_help_does_not_load_tvm():
    code = "import sys; from pipeline.cli.main import run; run(['--help']); assert 'tvm' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in shown.stdout for command in ("deploy", "inspect", "targets", "doctor"))


def test_nothing_given_shows_help(capsys: pytest.CaptureFixture[str]):
    assert run([]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("dance",), ("deploy",), ("deploy", "m.onnx", "--nope"), ("inspect", "m", "--json=3")]
)
def test_wrong_words(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    told(capsys, *arguments)


@pytest.mark.parametrize("command", ["inspect", "deploy"])
def test_a_missing_file(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nowhere.onnx" in told(capsys, command, "nowhere.onnx")
    assert not (tmp_path / "deployed").exists()


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "poem.onnx").write_text("Roses are red\n")
    assert "poem.onnx" in told(capsys, "inspect", tmp_path / "poem.onnx")


def test_every_unsupported_operator_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first"),
        helper.make_node("Bernoulli", ["a"], ["b"], "dice"),
        helper.make_node("RandomNormalLike", ["b"], ["y"], "noise"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((2, 3, 1, 1), "float32"), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    line = told(capsys, "inspect", tmp_path / "m.onnx")
    assert all(word in line for word in ("Bernoulli", "dice", "RandomNormalLike", "noise"))


def test_a_symbolic_size(tmp_path: Path, symbolic_onnx: Path, capsys: pytest.CaptureFixture[str]):
    assert "--input-shape" in told(capsys, "inspect", symbolic_onnx)
    assert run(["inspect", str(symbolic_onnx), "--input-shape", "image:2x3x8x8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["output_shape"][0] == 2


def test_a_shape_in_another_spelling(small_onnx: Path, capsys: pytest.CaptureFixture[str]):
    assert "NAME:1x3x224x224" in told(capsys, "inspect", small_onnx, "--input-shape", "image=1,3,8,8")


def test_an_unknown_target(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "host" in told(capsys, "deploy", small_onnx, "--target", "toaster", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inspect_for_people_and_for_programs(small_onnx: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["inspect", str(small_onnx)]) == 0
    assert "streamline" in capsys.readouterr().out
    assert run(["inspect", str(small_onnx), "--json"]) == 0
    assert {"layers", "plan", "original", "merged"} <= json.loads(capsys.readouterr().out).keys()


def test_inspect_with_a_choice_of_merges(
    small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plan = tmp_path / "plan.json"
    assert run(["inspect", str(small_onnx), "--only", "fold", "--save-plan", str(plan)]) == 0
    assert "left out" in capsys.readouterr().out
    assert run(["inspect", str(small_onnx), "--plan", str(plan), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["plan"]["candidates"]
    assert {candidate["kind"] for candidate in found} == {"fold"}
    assert run(["inspect", str(small_onnx), "--ratio", "0.6"]) == 0
    out = capsys.readouterr().out
    assert "Tucker decompositions" in out
    assert "With Tucker:" in out


def test_inspect_shows_matrices_decomposed_where_they_are_wanted(capsys: pytest.CaptureFixture[str]):
    def ranks(*options: str) -> dict[str, tuple[int, int]]:
        assert run(["inspect", str(GOOGLENET), "--json", *options]) == 0
        found = json.loads(capsys.readouterr().out)["plan"]["candidates"]
        return {each["name"]: tuple(each["ranks"]) for each in found if each["ranks"]}

    larger, matrices = ranks("--ratio", "0.5"), ranks("--ratio", "0.5", "--svd", "--rank-multiple", "4")
    assert larger["inception_4e.conv3x3"] == matrices["inception_4e.conv3x3"] == (8, 144)
    assert "inception_4e.conv3x3_reduce" not in larger
    assert matrices["inception_4e.conv3x3_reduce"] == (132, 8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--skip", "nonsense"], "no merge is called 'nonsense'"),
        (["--plan", "none.json"], "cannot read merge plan none.json"),
        (["--profile", "none.json"], "cannot read profile none.json"),
        (["--ratio", "2"], "ratio 2 is out of range"),
        (["--ratio", "0.5", "--energy", "0.5"], "give one of them"),
        (["--svd"], "give --tucker, --energy or --ratio with them"),
        (["--rank-multiple", "8"], "give --tucker, --energy or --ratio with them"),
        (["--ratio", "0.5", "--rank-multiple", "0"], "--rank-multiple"),
    ],
)
def test_wrong_choices_of_merges_are_one_line(small_onnx: Path, capsys, options: list[str], says: str):
    assert says in told(capsys, "inspect", small_onnx, *options)


def test_targets(capsys: pytest.CaptureFixture[str]):
    assert run(["targets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["targets"][0]["name"] == "host"
    assert run(["targets"]) == 0
    assert "host" in capsys.readouterr().out


def test_wrong_versions_are_one_line(small_onnx: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    from pipeline import startup

    pin = startup.Pin("apache-tvm-ffi", "0.1.14.post1", "0.1.15.post2")
    monkeypatch.setattr(startup, "pins", lambda: (pin,))
    line = told(capsys, "inspect", small_onnx)
    assert "0.1.15.post2" in line
    assert "ends the process" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_interrupted_while_tuning(number: int, small_onnx: Path, tmp_path: Path):
    out, records = tmp_path / "out", tmp_path / "records"
    command = [*COMMAND, "deploy", small_onnx, "--trials", "500", "--out", out, "--database", records]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "of 500 trials" in line and "1 of 500" not in line:
                os.kill(process.pid, number)
                break
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert errors.splitlines()[-1].startswith("deeprebirth: interrupted")
    assert not out.exists()
    assert [path for path in records.rglob("*.json") if path.stat().st_size]


def test_one_json_object_and_nothing_else(small_onnx: Path, tmp_path: Path):
    arguments = [
        "deploy",
        small_onnx,
        "--trials",
        "4",
        "--out",
        tmp_path / "out",
        "--database",
        tmp_path / "db",
    ]
    done = subprocess.run([*COMMAND, *arguments, "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert {"speedup", "latency_ms", "merges", "refusals", "verification"} <= report.keys()
