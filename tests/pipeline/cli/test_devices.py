"""`deeprebirth tracker`, `serve` and `devices`: real processes on loopback."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.main import run
from pipeline.cli.tracker_address import tracker_address
from pipeline.errors import UserError
from tuning import RpcConfig
from tuning.devices import tracker
from tuning.devices.listening import LOOPBACK, listen

COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()"]


@pytest.fixture
def port() -> int:
    with listen(LOOPBACK) as listener:
        return listener.getsockname()[1]


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """Read its lines until one has the pattern; pytest's time-out is the bound."""
    for line in process.stderr:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"ended without saying {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_device_is_registered_used_and_gone_again(
    number: signal.Signals, port: int, capsys: pytest.CaptureFixture[str]
):
    where = f"{LOOPBACK}:{port}"
    with running("tracker", "--port", port) as first:
        assert where in said(first, "tracker on")
        assert run(["devices", "--tracker", where]) == 0
        assert "deeprebirth serve --tracker" in capsys.readouterr().out
        with running("serve", "--tracker", where, "--key", "brett ä", "--threads", "1") as refused:
            assert refused.wait(60) == 2
            assert refused.stderr.read().startswith("deeprebirth: --key 'brett ä': write it without spaces")
        with running("serve", "--tracker", where, "--key", "brett-ä", "--threads", "1") as server:
            said(server, "registered as brett-ä")
            config = RpcConfig(LOOPBACK, port, "brett-ä")
            lease = tracker.request(config, 60, 600)
            assert tracker.device_facts(lease).threads == 1
            assert run(["devices", "--tracker", where, "--json"]) == 0
            shown = json.loads(capsys.readouterr().out)
            assert shown["devices"] == [{"address": lease.address, "key": "brett-ä", "free": False}]
            assert run(["devices", "--tracker", where]) == 0
            assert "in use" in capsys.readouterr().out
            (session,) = psutil.Process(server.pid).children()
            os.kill(server.pid, number)
            assert server.wait(60) == 0
            assert server.stderr.read().endswith("ended\n")
            assert not session.is_running()
        os.kill(first.pid, number)
        assert first.wait(60) == 0
        assert first.stdout.read() == ""


def test_a_server_waits_for_its_tracker_and_warns_if_it_is_open(port: int):
    where = f"{LOOPBACK}:{port}"
    with running("serve", "--tracker", where, "--key", "any", "--host", "0.0.0.0") as server:
        assert "runs any code that it is sent" in said(server, "warning: listening on 0.0.0.0")
        said(server, "is not there .*: looking for it")
        with running("tracker", "--port", port):
            said(server, "registered as any")
            (device,) = tracker.devices(RpcConfig(LOOPBACK, port, "any"))
            assert device.address.startswith("127.0.0.1:")


def told(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """The one line that a failure is told in."""
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_what_goes_wrong_is_told_in_one_line(port: int, capsys: pytest.CaptureFixture[str]):
    line = told(capsys, 1, "devices", "--tracker", f"localhost:{port}")
    assert f"no tracker answers at localhost:{port}" in line
    with listen(LOOPBACK, port):
        line = told(capsys, 2, "tracker", "--port", port)
        assert f"port {port} of 127.0.0.1 is in use: end the program that has it" in line
        assert "--port" in line
    assert "cannot listen on no.such.host.invalid:" in told(
        capsys, 2, "tracker", "--host", "no.such.host.invalid"
    )
    assert "--tracker" in told(capsys, 2, "serve", "--key", "any")


@pytest.mark.parametrize(
    ("given_text", "host", "port"),
    [
        ("127.0.0.1:9190", "127.0.0.1", 9190),
        ("board.local:1", "board.local", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:9190", "fe80::1%eth0", 9190),
    ],
)
def test_addresses(given_text: str, host: str, port: int):
    assert tracker_address(given_text) == (host, port)


@pytest.mark.parametrize(
    "wrong",
    ["", "host", "9190", "host:", ":9190", "host:0", "host:65536", "::1:9190", "http://host:9190", "h :9190"],
)
def test_addresses_in_another_spelling(wrong: str):
    with pytest.raises(UserError, match=r"--tracker .*: write it as HOST:PORT, such as 127\.0\.0\.1:9190"):
        tracker_address(wrong)


@given(st.text(max_size=20))
def test_no_text_is_read_as_something_else(text: str):
    try:
        host, port = tracker_address(text)
    except UserError:
        return
    assert text in (f"{host}:{port}", f"[{host}]:{port}") or int(text.rpartition(":")[2]) == port
