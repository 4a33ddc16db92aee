"""T12 (apache/tvm#13225): a large library over a slow link is sent whole or told, with progress.

The link is a proxy on another loopback address, under the port of the device's server.
"""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tvm.s_tir.meta_schedule.arg_info import TensorInfo

import targets
import tuning
from tuning.devices import tracker
from tuning.failures import Cause
from tuning.measuring import transfer
from tuning.measuring.runner import Runner

SECONDS = 120
SIZE = 5_000_000
ARGS_INFO = [TensorInfo("float32", (4,))]
SERVER = """
import socket, sys
sys.modules["torch"] = None
from tuning.devices.lifetime import run_until_told
from tuning.devices.server import DeviceServer
listener = socket.socket(fileno=int(sys.argv[1]))
server = DeviceServer(listener, ("127.0.0.1", int(sys.argv[2])), "slow", "127.0.0.2")
run_until_told(server.run(), sys.stdin.fileno())
"""
SOURCE = f"""
#include <unistd.h>
extern "C" __attribute__((used)) const char ballast[{SIZE}] = {{1}};
extern "C" int __tvm_ffi_main(void *, const void *, int, void *) {{ usleep(1000); return 0; }}
"""


class Link:
    """Passes connections on; what goes to the device is slow, breaks or stalls after some bytes.

    Attributes
    ----------
    rate : float
        Bytes a second.
    breaks_after, stalls_after : int or None
        Bytes of a connection.
    """

    def __init__(self, host: str, port: int, to: tuple[str, int]) -> None:
        self.rate = 1e9
        self.breaks_after: int | None = None
        self.stalls_after: int | None = None
        self._to = to
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                device = socket.create_connection(self._to)
                for end in (client, device):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._there, args=(client, device), daemon=True).start()
                threading.Thread(target=self._back, args=(device, client), daemon=True).start()

    def _there(self, client: socket.socket, device: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        passed = 0
        with suppress(OSError):
            while data := client.recv(1 << 16):
                passed += len(data)
                if self.breaks_after is not None and passed > self.breaks_after:
                    break
                if self.stalls_after is not None and passed > self.stalls_after:
                    continue
                device.sendall(data)
                time.sleep(len(data) / self.rate)
        for end in (client, device):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _back(self, device: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := device.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def library(host: targets.TargetInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("große Bibliothek") / "candidate.so"
    source = path.with_suffix(".cc")
    source.write_text(SOURCE, encoding="ascii")
    subprocess.run([host.require_compiler(), "-shared", "-fPIC", "-o", path, source], check=True, timeout=60)
    return path


@pytest.fixture
def slow(session: tuning.LocalSession) -> Iterator[tuple[tuning.RpcConfig, Link]]:
    config = tuning.RpcConfig(session.rpc_config.host, session.rpc_config.port, "slow")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        link = Link("127.0.0.2", port, ("127.0.0.1", port))
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, str(listener.fileno()), str(config.port)],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            env=os.environ | {"TVM_NUM_THREADS": "1"},
        )
        try:
            tracker.require_device(config, away_seconds=SECONDS)
            yield config, link
        finally:
            server.stdin.close()
            server.wait(SECONDS)
            link.close()
            tracker_forgets(config)


def tracker_forgets(config: tuning.RpcConfig) -> None:
    """Wait until the tracker heard that the server is gone, for the tests that share it."""
    while config.key in tracker.served_keys(config):
        pass


def test_a_large_library_is_sent_whole_with_progress(
    slow: tuple[tuning.RpcConfig, Link], library: Path
) -> None:
    config, link = slow
    link.rate = SIZE / 2.5
    lines: list[str] = []
    with Runner(config, say=lines.append) as runner:
        measured = runner.submit(library, ARGS_INFO).result(SECONDS)
    assert measured.failure is None
    shares = [int(re.fullmatch(r"sending 5\.0 MB to 127\.0\.0\.2:\d+: (\d+) %", line)[1]) for line in lines]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 100


def test_a_link_that_breaks_is_told_and_costs_its_candidate_only(
    slow: tuple[tuning.RpcConfig, Link], library: Path
) -> None:
    config, link = slow
    link.breaks_after = SIZE // 2
    with Runner(config) as runner:
        failure = runner.submit(library, ARGS_INFO).result(SECONDS).failure
        link.breaks_after = None
        assert runner.submit(library, ARGS_INFO).result(SECONDS).failure is None
    assert failure.cause is Cause.DEVICE_GONE
    arrived = re.match(r"the library could not be sent, (\d\.\d) of 5\.0 MB had arrived: ", failure.detail)
    assert 2.4 <= float(arrived[1]) < 5.0
    assert "\n" not in failure.detail


def test_a_transfer_may_take_longer_the_larger_it_is(
    slow: tuple[tuning.RpcConfig, Link], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a link that stalls it ends when its time is over, and not before."""
    assert transfer.seconds_for(10 * SIZE) > 9 * transfer.seconds_for(SIZE) > 60
    config, link = slow
    link.stalls_after = SIZE // 2
    monkeypatch.setattr(transfer, "SLOWEST", 10 * SIZE)
    lease = tracker.request(config, SECONDS, SECONDS)
    told = r"took longer than 2 s: \d\.\d of 5\.0 MB had arrived"
    with pytest.raises(transfer.TransferError, match=told) as error:
        transfer.send(lease.remote, library, library.name, lease.address, lambda line: None)
    assert error.value.late
