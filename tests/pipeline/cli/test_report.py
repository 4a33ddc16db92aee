import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import run
from tuning.progress import SessionEnded, SessionStarted, TaskProgress, Trial, TuningProgress
from tuning.session_log import SessionLog

COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "Protokoll für Zoë" / "session log.jsonl"
    task = TaskProgress(name="conv", weight=2, flop=2e6, trials=1, failed=0, best_us=50.0)
    with SessionLog(path) as log:
        log.write(
            SessionStarted(
                time="2026-01-02T03:04:05+00:00",
                network="net",
                target="host",
                measured_on="Test CPU",
                emulated=False,
                versions={},
                trials=1,
                time_budget=None,
                reused=0,
            )
        )
        log.write(Trial(at=1.0, task="conv", seconds=(5e-5,)))
        log.write(TuningProgress(at=1.0, tasks=(task,), trials_done=1, trials_total=1, best_ms=0.1))
        log.write(SessionEnded(at=2.0, reason="trials made"))
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    assert run([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deeprebirth: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_report_for_people(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "Bericht für Zoë"
    assert run(["report", str(log), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "0.1 ms, estimated, on Test CPU" in shown
    assert f"written: {out / 'report.html'}" in shown
    assert {each.name for each in out.iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        ".deeprebirth",
    }


def test_without_a_directory_nothing_is_written(log: Path, tmp_path: Path, capsys, monkeypatch):
    (empty := tmp_path / "empty").mkdir()
    monkeypatch.chdir(empty)
    assert run(["report", str(log)]) == 0
    assert "written" not in capsys.readouterr().out
    assert not list(empty.iterdir())


def test_one_json_object_and_nothing_else(log: Path, tmp_path: Path):
    command = [*COMMAND, "report", log, log, "-o", tmp_path / "out", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["kind"] == "tuning sessions"
    assert [each["best_ms"] for each in report["sessions"]] == [0.1]


def test_what_is_no_log_is_one_line(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (empty := tmp_path / "empty").touch()
    (poem := tmp_path / "poem é").write_text("Roses are red\n")
    assert "empty is no log of a tuning session: it is empty" in told(capsys, "report", log, empty)
    assert "is no log of a tuning session: line 1 is cut or damaged" in told(capsys, "report", poem)
    assert "is a folder" in told(capsys, "report", tmp_path)
    assert "no such file" in told(capsys, "report", tmp_path / "nowhere")
    told(capsys, "report")


def test_a_place_that_cannot_be_written_to_is_one_line(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    assert "cannot write to" in told(capsys, "report", log, "-o", tmp_path / "file" / "out")
    assert "holds more than a report (session log.jsonl)" in told(capsys, "report", log, "-o", log.parent)
    assert log.is_file()


def test_help_loads_neither_tvm_nor_matplotlib():
    code = (
        "import sys; from pipeline.cli.main import run; run(['report', '--help']); "
        "assert not {'tvm', 'torch', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
