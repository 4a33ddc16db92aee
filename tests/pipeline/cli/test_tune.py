"""`deeprebirth tune`, over a tracker and a server of its own and over given ones; what is given wrongly."""

import json
from pathlib import Path

import pytest

import targets
import tuning
from pipeline.cli.main import run
from pipeline.cli.tuning import duration, tuning_of
from pipeline.errors import UserError
from targets.runtime.opencl import OpenCLDevice
from tuning.session_log import read_log

TRIALS = 8


def tuned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    """What a run that went well prints as JSON."""
    assert run(["tune", *(str(argument) for argument in arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    assert run(["tune", *(str(argument) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()[-1]


@pytest.fixture(scope="module")
def model(write_small_onnx, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_onnx(tmp_path_factory.mktemp("mödel mit Leerzeichen") / "kleines Netz.onnx")


@pytest.fixture(scope="module")
def records(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that a first session left."""
    place = tmp_path_factory.mktemp("récords")
    assert run(["tune", str(model), "--trials", str(TRIALS), "--database", str(place)]) == 0
    return place


def test_a_session_goes_on_from_its_records(model: Path, records: Path, capsys):
    again = tuned(capsys, model, "--trials", TRIALS + 2, "--database", records)
    assert (again["trials_reused"], again["trials_measured"]) == (TRIALS, 2)
    assert again["network_ms"] > 0
    assert again["measured_on"] == targets.find("host").measured_on()
    assert Path(again["log"]).parent.parent == records
    (session,) = read_log(Path(again["log"])).sessions
    assert len(session.trials) == 2
    assert session.started.reused == TRIALS
    assert session.ended.reason == "trials made"


def test_devices_of_a_tracker_and_records_of_another_database(
    model: Path, records: Path, tmp_path: Path, capsys
):
    with tuning.LocalSession(targets.find("host"), key="board", devices=2) as session:
        where = f"{session.rpc_config.host}:{session.rpc_config.port}"
        devices = ("--tracker", where, "--key", "board", "--database", tmp_path / "d")
        assert (
            run(["tune", str(model), *map(str, devices), "--merge-db", str(records), "--trials", "14"]) == 0
        )
        captured = capsys.readouterr()
        assert "records taken over" in captured.err
        assert f"on {targets.find('host').measured_on()}" in " ".join(captured.out.split())
        found = tuned(capsys, model, *devices, "--trials", 14)
        assert (found["trials_measured"], found["trials_reused"]) == (0, 14)
        line = told(capsys, model, "--tracker", where, "--key", "phone", "--database", tmp_path / "d")
        assert "keys served there: board" in line


@pytest.mark.parametrize(
    ("target", "emulated"), [("opencl", False), ("mali-g76+host", True), ("adreno-640+host", True)]
)
def test_a_gpu_is_tuned_through_opencl(
    target: str, emulated: bool, model: Path, opencl: OpenCLDevice, tmp_path: Path, capsys
):
    if "pocl" not in opencl.version.lower():
        pytest.skip(f"{opencl.name} is no PoCL")
    choice = ("--device", "portable", "--database", tmp_path / "d", "--trials", 3)
    found = tuned(capsys, model, "--target", target, *choice)
    assert found["trials_measured"] == 3
    assert found["measured_on"].startswith("PoCL on ")
    assert found["emulated"] == emulated


def test_what_is_given_wrongly(model: Path, tmp_path: Path, capsys):
    database = ("--database", tmp_path / "d")
    for arguments, says in (
        (("--time-budget", "soon"), "30m"),
        (("--time-budget", "0s"), "more than nothing"),
        (("--trials", "0"), "at least 1"),
        (("--key", "board"), "belong together"),
        (("--target", "opencl", "--threads", "2"), "runs on a GPU"),
        (("--device", "pocl"), "host runs on the processor"),
        (("--tracker", "board", "--key", "k"), "HOST:PORT"),
        (("--tracker", "127.0.0.1:1", "--key", "k"), "no tracker answers at 127.0.0.1:1"),
        (("--builders", "ftp://x"), "Dask"),
        (("--merge-db", tmp_path), "holds no tuning database"),
    ):
        assert says in told(capsys, model, *database, *arguments)
    assert not list(tmp_path.glob("d/*/*.json"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1h30m10s", 5410)]
)
def test_durations(text: str, seconds: float):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "30 m", "-3s", "1d", "1m1h"])
def test_what_is_no_duration(text: str):
    with pytest.raises(UserError, match="1h30m"):
        duration(text)


def test_winograds_algorithm_can_be_turned_off() -> None:
    given = (TRIALS, *[None] * 7, [], None)
    assert [tuning_of(*given, exact_math).exact_math for exact_math in (False, True)] == [False, True]
