"""`deeprebirth targets`: all of them, one in full, and the user's own."""

import json
from pathlib import Path

import pytest

import targets
from pipeline.cli.main import run


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["targets", *arguments]) == 0
    return capsys.readouterr().out


def test_all_for_programs(capsys: pytest.CaptureFixture[str]):
    rows = json.loads(shown(capsys, "--json"))["targets"]
    assert [row["name"] for row in rows] == [info.name for info in targets.all_targets()]
    by_name = {row["name"]: row for row in rows}
    assert by_name["host"]["verified"] == "run on hardware"
    assert by_name["raspberry-pi-4"]["features"] == ["neon"]
    assert by_name["android-arm64"]["verified"] == "compiled only"
    assert by_name["rk3399"]["clusters"] == "2 x Cortex-A72 (used), 4 x Cortex-A53"


def test_all_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = shown(capsys)
    for info in targets.all_targets():
        line = next(line for line in out.splitlines() if line.split()[:1] == [info.name])
        assert info.verified.value in line
        assert str(info.gpu.max_threads if info.gpu else info.cpu) in line


def test_gpus_have_a_list_of_their_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = shown(capsys).splitlines()
    (heading,) = [number for number, line in enumerate(lines) if "work group" in line]
    rows = {line.split()[0]: line for line in lines[heading + 2 :] if line.strip()}
    assert "host" not in rows
    for part in ("Mali-G52", "256", "32 KiB", "compiled only", "2.0", "cautious", "run on PoCL"):
        assert part in rows["mali-g52"]
    assert "reported" in rows["adreno-640"]
    assert "mali-g610+rk3588" in lines[-1]


def test_a_gpu_with_its_host_in_full(capsys: pytest.CaptureFixture[str]):
    found = json.loads(shown(capsys, "mali-g610+rk3588", "--json"))
    assert (found["cpu"], found["gpu"]["max_threads"], found["verified"]) == (
        "cortex-a76",
        1024,
        "run on PoCL",
    )
    assert json.loads(shown(capsys, "rk3588", "--json"))["graphics_target"] == "mali-g610+rk3588"
    assert json.loads(shown(capsys, "rk3588", "--json"))["gpu"] is None
    out = shown(capsys, "mali-g610+rk3588")
    assert "gpu max threads" in out
    assert "None" not in out


def test_textures_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]):
    assert run(["targets", "qcom/adreno-opencl-texture"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "results are wrong" in told


def test_one_in_full(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    out = shown(capsys, "raspberry-pi-5")
    assert "neon dotprod fullfp16" in out
    assert "missing: install the package g++-aarch64-linux-gnu" in " ".join(out.split())
    assert json.loads(shown(capsys, "raspberry-pi-5", "--json"))["compiler_found"] is None


def test_one_of_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "mein Brett.toml"
    path.write_text('name = "b"\ntriple = "aarch64-linux-gnu"\ncpu = "cortex-a55"\ncores = 2\n')
    found = json.loads(shown(capsys, str(path), "--json"))
    assert (found["cpu"], found["threads"], found["verified"]) == ("cortex-a55", 2, "not tried")
    path.write_text('name = "b"\ntriple = "aarch64-linux-gnu"\ncpu = "cortex-a56"\ncores = 2\n')
    assert run(["targets", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "did you mean" in told


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert run(["targets", "rasperry-pi-4"]) == 2
    told = capsys.readouterr().err
    assert "did you mean raspberry-pi-4?" in told
    assert told.count("\n") == 1
