import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tuning.errors import TuningError
from tuning.failures import Cause
from tuning.progress import Note, SessionEnded, SessionStarted, TaskProgress, Trial, TuningProgress
from tuning.session_log import LONGEST_LINE, SessionLog, read_log


def started(network: str = "net") -> SessionStarted:
    return SessionStarted(
        time="2026-01-02T03:04:05+00:00",
        network=network,
        target="host",
        measured_on="Test CPU",
        emulated=False,
        versions={"apache-tvm": "0.27.0"},
        trials=10,
        time_budget=None,
        reused=0,
    )


def progress(at: float) -> TuningProgress:
    task = TaskProgress(name="conv", weight=2, flop=1e9, trials=3, failed=0, best_us=50.0)
    return TuningProgress(at=at, tasks=(task,), trials_done=3, trials_total=10, best_ms=0.1)


def write(path: Path, network: str = "net", ended: bool = True):
    with SessionLog(path) as log:
        log.write(started(network))
        log.write(Trial(at=0.5, task="conv", seconds=(5e-5, 6e-5), device="127.0.0.1:9090"))
        log.write(progress(0.5))
        log.write(Trial(at=0.9, task="conv", cause=Cause.TIMED_OUT, detail="took longer than 10 s"))
        log.write(Note(at=1.0, text="the device is back", about="device"))
        if ended:
            log.write(SessionEnded(at=2.0, reason="trials made"))


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "Ein Ordner für Zoë" / "session log.jsonl"


def test_what_is_written_is_read(log_file: Path):
    write(log_file)
    log = read_log(log_file)
    (session,) = log.sessions
    assert (log.bad_lines, log.problems) == (0, ())
    assert session.started == started()
    assert session.progress == (progress(0.5),)
    assert [trial.cause for trial in session.trials] == [None, Cause.TIMED_OUT]
    assert session.notes == (Note(at=1.0, text="the device is back", about="device"),)
    assert session.ended == SessionEnded(at=2.0, reason="trials made")


def test_each_line_is_one_json_object(log_file: Path):
    write(log_file)
    lines = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
    assert [line["line"]["kind"] for line in lines] == [
        "started",
        "trial",
        "progress",
        "trial",
        "note",
        "ended",
    ]
    assert len({line["session"] for line in lines}) == 1


def test_sessions_in_one_file_are_told_apart(log_file: Path):
    write(log_file, "original", ended=False)
    write(log_file, "merged")
    first, second = read_log(log_file).sessions
    assert (first.started.network, first.ended) == ("original", None)
    assert (second.started.network, second.ended.reason) == ("merged", "trials made")
    assert len(first.trials) == len(second.trials) == 2


def test_sessions_that_write_at_the_same_time_are_told_apart(log_file: Path):
    with SessionLog(log_file) as one, SessionLog(log_file) as other:
        for log, name in ((one, "one"), (other, "other")):
            log.write(started(name))
        for at in range(5):
            one.write(Note(at=at, text="one"))
            other.write(Note(at=at, text="other"))
    for session in read_log(log_file).sessions:
        assert {note.text for note in session.notes} == {session.started.network}


def test_progress_is_thinned_and_its_last_state_kept(log_file: Path):
    times = [step / 10 for step in range(40_000)]
    with SessionLog(log_file) as log:
        log.write(started())
        for at in times:
            log.write(progress(at))
        log.write(SessionEnded(at=4000.0, reason="time spent"))
    kept = [each.at for each in read_log(log_file).sessions[0].progress]
    assert kept[:3] == [0.0, 1.0, 2.0]
    assert kept[-1] == times[-1]
    assert len(kept) < 1000
    assert all(after - before <= max(1.0, after / 100) for before, after in pairwise(kept))


def test_progress_that_waits_is_written_when_the_log_is_closed(log_file: Path):
    with SessionLog(log_file) as log:
        log.write(started())
        log.write(progress(0.0))
        log.write(progress(0.5))
    assert [each.at for each in read_log(log_file).sessions[0].progress] == [0.0, 0.5]


def test_a_killed_writer_leaves_whole_lines(log_file: Path):
    code = (
        "import sys; sys.path[:0] = [sys.argv[2]]\n"
        "from pathlib import Path\n"
        "from tuning.progress import Note\n"
        "from tuning.session_log import SessionLog\n"
        "from test_session_log import started\n"
        "log = SessionLog(Path(sys.argv[1])); log.write(started()); print('up', flush=True)\n"
        "while True: log.write(Note(at=1, text='x' * 900))\n"
    )
    command = [sys.executable, "-c", code, str(log_file), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        while log_file.stat().st_size < 100_000:
            pass
        os.kill(process.pid, signal.SIGKILL)
    write(log_file, "next")
    killed, following = (log := read_log(log_file)).sessions
    assert log.bad_lines <= 1
    assert killed.ended is None
    assert len(killed.notes) >= 90
    assert following.started.network == "next"


def test_a_session_after_a_cut_line_starts_on_its_own(log_file: Path):
    write(log_file)
    log_file.write_bytes(log_file.read_bytes()[:-20])
    write(log_file, "next")
    log = read_log(log_file)
    assert [session.started.network for session in log.sessions] == ["net", "next"]
    assert log.sessions[0].ended is None
    assert log.bad_lines == 1
    assert log.problems == ("line 6 is cut or damaged: it is no JSON",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"session": "a", "line": {"kind": "dance", "at": 1}}', "of a kind that is not known: 'dance'"),
        (b'{"session": "a", "line": {"at": 1}}', "is no line of a session"),
        (b'{"session": "a", "line": {"kind": "note", "at": NaN, "text": ""}}', "is no line of a session"),
        (b'{"session": "a", "line": {"kind": "note", "at": -1, "text": ""}}', "line.note.at"),
        (b'{"session": "a", "line": {"kind": "note", "at": 1e300, "text": ""}}', "line.note.at"),
        (b'{"session": "a", "line": {"kind": "note", "at": 1, "text": "", "more": 1}}', "line.note.more"),
        (b"{}", "is no line of a session"),
        (b"null", "is no line of a session"),
        (b"[" * 100_000, "is cut or damaged"),
        (b"\x00" * 100, "is cut or damaged"),
        (b"\xff\xfe{", "is cut or damaged"),
        (b"x" * (LONGEST_LINE - 1), "is cut or damaged"),
    ],
)
def test_a_bad_line_is_counted_and_explained(log_file: Path, line: bytes, says: str):
    write(log_file)
    before = read_log(log_file).sessions
    log_file.write_bytes(line + b"\n" + log_file.read_bytes())
    log = read_log(log_file)
    assert (log.sessions, log.bad_lines) == (before, 1)
    assert log.problems[0].startswith("line 1 is ")
    assert says in log.problems[0]


def test_blank_lines_other_line_ends_and_a_byte_order_mark_do_no_harm(log_file: Path):
    write(log_file)
    before = read_log(log_file)
    log_file.write_bytes(b"\xef\xbb\xbf" + log_file.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read_log(log_file) == before


def test_a_session_without_its_first_line_is_left_out(log_file: Path):
    write(log_file)
    write(log_file, "next")
    log_file.write_bytes(log_file.read_bytes().partition(b"\n")[2])
    log = read_log(log_file)
    assert [session.started.network for session in log.sessions] == ["next"]
    assert log.bad_lines == 5
    assert log.problems == ("5 lines are of a session whose first line is missing",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"Roses are red\n", "line 1"),
        (b"\x00" * 99, "line 1"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes, says: str):
    file = tmp_path / "poem"
    file.write_bytes(content)
    with pytest.raises(TuningError, match=f"poem is no log of a tuning session: .*{says}"):
        read_log(file)


def test_a_large_file_that_is_no_log_is_given_up_early(tmp_path: Path):
    file = tmp_path / "weights"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(TuningError, match="is no log"):
        read_log(file)


def test_what_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(TuningError, match="is a folder"):
        read_log(tmp_path)
    with pytest.raises(TuningError, match=r"cannot read .*no such file"):
        read_log(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TuningError, match="no regular file"):
        read_log(tmp_path / "pipe")


def test_where_it_cannot_be_written_is_told_at_once(tmp_path: Path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "log"):
        with pytest.raises(TuningError, match="cannot write the session's log"):
            SessionLog(place)


def test_a_full_disk_is_told_in_one_line():
    with SessionLog(Path("/dev/full")) as log, pytest.raises(TuningError, match="no space left"):
        log.write(started())


def test_texts_are_one_line_of_bounded_length_that_can_be_encoded(log_file: Path):
    with SessionLog(log_file) as log:
        log.write(started("a\ud800b\nc"))
        log.write(Trial(at=0, task="t", cause=Cause.CRASHED, detail="y" * 10_000))
    (session,) = read_log(log_file).sessions
    assert session.started.network == "a?b c"
    assert len(session.trials[0].detail) == 1000


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_costs_the_lines_that_it_touches(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    """Bytes of a line are overwritten, cut out or put in: the other lines are read as before."""
    file = tmp_path_factory.mktemp("log") / "log"
    write(file)
    lines = file.read_bytes().splitlines()
    hurt = data.draw(st.integers(1, len(lines) - 1))
    start = data.draw(st.integers(0, len(lines[hurt])))
    end = data.draw(st.integers(start, len(lines[hurt])))
    rubbish = data.draw(st.binary(max_size=30)).replace(b"\n", b"")
    lines[hurt] = lines[hurt][:start] + rubbish + lines[hurt][end:]
    file.write_bytes(b"\n".join(lines) + b"\n")
    log = read_log(file)
    session = log.sessions[0]
    assert session.started == started()
    kept = len(session.trials) + len(session.progress) + len(session.notes) + (session.ended is not None)
    assert kept >= len(lines) - 2
    assert log.bad_lines <= 1


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
@example(content=b'{"session": "a", "line": ' * 1000)
def test_whatever_is_in_a_file_it_is_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
):
    file = tmp_path_factory.mktemp("log") / "log"
    file.write_bytes(content)
    with pytest.raises(TuningError, match="is no log"):
        read_log(file)
