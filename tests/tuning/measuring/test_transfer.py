"""How long a transfer may take; and that watching one leaves no files open."""

import os
from pathlib import Path

import pytest

import tuning
from tuning.devices import tracker
from tuning.measuring.transfer import TransferError, seconds_for, send


def test_a_transfer_may_take_as_long_as_its_size_needs_on_a_slow_link() -> None:
    assert seconds_for(0) > 0
    assert seconds_for(64 << 20) - seconds_for(0) == pytest.approx(1024)


def test_a_file_arrives_whole_and_nothing_stays_open(session: tuning.LocalSession, tmp_path: Path) -> None:
    file = tmp_path / "große Datei ☃"
    file.write_bytes(os.urandom(1 << 20))
    lease = tracker.request(session.rpc_config, 60, 60)
    before = os.listdir("/proc/self/fd")
    send(lease.remote, file, "sent", lease.address, lambda line: None)
    assert os.listdir("/proc/self/fd") == before
    assert bytes(lease.remote.download("sent")) == file.read_bytes()


def test_what_the_device_says_is_told_in_one_line(session: tuning.LocalSession, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    lease = tracker.request(session.rpc_config, 60, 60)
    with pytest.raises(TransferError, match=r"^the library could not be sent, 0\.0 of 0\.0 MB .*$") as error:
        send(lease.remote, file, "no/such/folder/file", lease.address, lambda line: None)
    assert not error.value.late
