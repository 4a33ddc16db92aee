"""The RPC server: it outlives its sessions, tells how they ended, and leaves nothing of them."""

import os
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm import rpc

import tuning
from tuning.devices import tracker
from tuning.devices.ending import Ending
from tuning.devices.protocol import CLIENT, RPC_MAGIC, RPC_MISMATCH, as_number, number, receive, text
from tuning.devices.tracker import Lease


def take(session: tuning.LocalSession, seconds: float = 60) -> Lease:
    return tracker.request(session.rpc_config, 60, seconds)


def load(lease: Lease, library: Path) -> tvm.runtime.Module:
    lease.remote.upload(str(library))
    return lease.remote.load_module(library.name)


def folder_of(lease: Lease) -> Path:
    return Path(lease.remote.get_function("tvm.rpc.server.workpath")("."))


@pytest.mark.parametrize(
    ("name", "argument", "signal_name", "code"),
    [
        ("raising", signal.SIGILL, "SIGILL", None),
        ("raising", signal.SIGSEGV, "SIGSEGV", None),
        ("raising", signal.SIGABRT, "SIGABRT", None),
        ("raising", signal.SIGKILL, "SIGKILL", None),
        ("leaving", 3, None, 3),
    ],
)
def test_the_end_of_a_session_is_told(
    session: tuning.LocalSession,
    deadly: Path,
    name: str,
    argument: int,
    signal_name: str | None,
    code: int | None,
) -> None:
    lease = take(session)
    folder = folder_of(lease)
    assert folder.is_dir()
    with pytest.raises(Exception, match=r"RPCCode|[Rr]eset|closed|[Ss]ocket"):
        load(lease, deadly)[name](int(argument))
    ended = tracker.ending(lease)
    assert ended is not None
    assert (ended.signal, ended.code, ended.late) == (signal_name, code, False)
    assert not folder.exists()
    following = take(session)
    assert tracker.last_end(following) == ended
    assert following.address == lease.address


def test_a_session_that_its_client_ends(session: tuning.LocalSession) -> None:
    lease = take(session)
    assert tracker.ending(lease) is None
    address, match_key = lease.address, lease.match_key
    del lease
    following = take(session)
    last = tracker.last_end(following)
    assert last is not None
    assert (last.signal, last.code, last.late) == (None, 0, False)
    assert tracker.ending(Lease(following.remote, address, match_key)) == last


def test_a_late_session_is_told_as_late_and_everything_it_started_ends(
    session: tuning.LocalSession, deadly: Path
) -> None:
    lease = take(session, seconds=2)
    library = load(lease, deadly)
    library["starting"](0)
    (process,) = [child for pid in session.process_ids for child in psutil.Process(pid).children()]
    started = [each.pid for each in psutil.process_iter() if group(each.pid) == process.pid]
    assert len(started) == 2
    with pytest.raises(Exception, match=r"RPCSessionTimeoutError: the session took longer than its 2 s"):
        library["sleeping"](600)
    ended = tracker.ending(lease)
    assert ended is not None
    assert ended.late
    take(session)
    assert not [pid for pid in started if running(pid)]


def group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_connection_that_says_nothing_or_something_else_is_in_nobodys_way(
    session: tuning.LocalSession,
) -> None:
    (device,) = tracker.devices(session.rpc_config)
    host, _, port = device.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 30),
        socket.create_connection((host, int(port)), 30) as other,
    ):
        other.sendall(number(RPC_MAGIC) + text(f"{CLIENT}local:0.5 -timeout=3"))
        assert as_number(receive(other, 4)) == RPC_MISMATCH
        assert take(session).address == device.address


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=32).map(lambda data: number(RPC_MAGIC) + number(len(data)) + data),
        st.integers(-(2**31), 2**31 - 1).map(lambda length: number(RPC_MAGIC) + number(length)),
    )
)
def test_no_words_of_a_stranger_end_the_server(session: tuning.LocalSession, words: bytes) -> None:
    before = session.process_ids
    (device,) = tracker.devices(session.rpc_config)
    host, _, port = device.address.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as stranger:
        with suppress(OSError):
            stranger.sendall(words)
            stranger.shutdown(socket.SHUT_WR)
        select.select([stranger], [], [], 30)
    tracker.wait_for_device(session.rpc_config, 60)
    assert session.process_ids == before


def test_clients_of_tvm_are_served(session: tuning.LocalSession, deadly: Path) -> None:
    config = session.rpc_config
    stock = rpc.connect_tracker(config.host, config.port)
    remote = stock.request("local", session_timeout=60)
    remote.upload(bytearray(b"words"), "a file")
    assert remote.download("a file") == b"words"
    assert "local" in stock.text_summary()
    remote.upload(str(deadly))
    remote.load_module(deadly.name)["sleeping"](0)


def test_an_ending_is_read_only_from_what_it_wrote() -> None:
    ending = Ending(3, signal="SIGILL")
    assert Ending.from_json(ending.to_json()) == ending
    for other in ("null", "{", "[1]", '{"session": 1, "mood": "bad"}', ""):
        assert Ending.from_json(other) is None
