"""Where code is measured: a device behind a tracker, or one on this machine that we start ourselves."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from targets import TargetInfo
from tuning.errors import TuningError

_HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class RpcConfig:
    """Where the tracker listens, and the key of the device to ask it for."""

    host: str
    port: int
    key: str


class Session(Protocol):
    """A device that can be asked for through a tracker, and the number of threads its code runs on."""

    rpc_config: RpcConfig
    threads: int


class RemoteSession:
    """A device that serves a key of a tracker somewhere.

    Parameters
    ----------
    host, port, key
        The tracker's address and the device's key.
    threads : int
        Cores that the device's server was told to use.

    Raises
    ------
    TuningError
        On entering, if the tracker does not answer or no device serves the key; names the keys there are.
    """

    def __init__(self, host: str, port: int, key: str, threads: int) -> None:
        self.rpc_config = RpcConfig(host, port, key)
        self.threads = threads

    def __enter__(self) -> Self:
        require_device(self.rpc_config)
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class LocalSession:
    """A tracker and an RPC server on this machine, which live as long as the ``with`` block.

    Both are child processes in sessions of their own: the terminal's Ctrl-C does not reach them, and they
    end, with everything they started, when the block is left or this process is gone in whatever way.

    Parameters
    ----------
    target : TargetInfo
        What the server runs; its number of threads is the default.
    threads : int, optional
        Cores that measured code uses.
    key : str
        The key the server registers.

    Raises
    ------
    TuningError
        On entering, if they do not start in time.
    """

    def __init__(self, target: TargetInfo, threads: int | None = None, key: str = "local") -> None:
        self.threads = threads or target.threads
        self._key = key
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def rpc_config(self) -> RpcConfig:
        """The tracker's address and the server's key."""
        return self._config

    def __enter__(self) -> Self:
        try:
            port = self._start("tracker")
            self._config = RpcConfig(_HOST, port, self._key)
            self._start("server", str(port), self._key)
            wait_for_device(self._config, _START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and the tracker and everything they started."""
        for process in reversed(self._processes):
            _end(process)
        self._processes = []

    def _start(self, role: str, *arguments: str) -> int:
        """Start one of the two and return the port it listens on."""
        environment = os.environ | {
            "TVM_NUM_THREADS": str(self.threads),
            "TVM_BIND_THREADS": "0",
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tuning.devices.serve", role, *arguments],
            env=environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        line = _read_line(process, _START_SECONDS)
        try:
            return int(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError):
            raise TuningError(f"the local RPC {role} did not start within {_START_SECONDS:g} s") from None


def served_keys(config: RpcConfig) -> dict[str, int]:
    """Return the keys that devices serve at the tracker, and how many devices of each are registered.

    Raises
    ------
    TuningError
        If no tracker answers there in time.
    """
    keys: dict[str, int] = {}
    for server in _summary(config)["server_info"]:
        key = server["key"].removeprefix("server:")
        keys[key] = keys.get(key, 0) + 1
    return keys


def require_device(config: RpcConfig) -> None:
    """Check that some device serves the key.

    Raises
    ------
    TuningError
        If none does; the message names the keys that are served.
    """
    keys = served_keys(config)
    if config.key not in keys:
        there = ", ".join(sorted(keys)) or "none"
        raise TuningError(
            f"no device serves the key {config.key!r} at the tracker {config.host}:{config.port}: "
            f"keys served there: {there}"
        )


def wait_for_device(config: RpcConfig, seconds: float) -> None:
    """Wait until a device with the key is free.

    Raises
    ------
    TuningError
        If none is within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while _summary(config)["queue_info"].get(config.key, {}).get("free", 0) == 0:
        if time.monotonic() > deadline:
            require_device(config)
            raise TuningError(f"the device {config.key!r} was not free within {seconds:g} s: try again later")
        time.sleep(0.05)


def request(config: RpcConfig, wait_seconds: float, session_seconds: float) -> Any:
    """Take a device that serves the key and return TVM's RPC session with it.

    Parameters
    ----------
    wait_seconds : float
        How long to wait for a device that is registered but in use.
    session_seconds : float
        After so many seconds the device ends the session.

    Raises
    ------
    TuningError
        If no device serves the key (the message names those served) or none comes free in time.
    """
    from tvm import rpc

    deadline = time.monotonic() + wait_seconds
    with _tracker(config) as tracker:
        try:
            rpc.base.sendjson(tracker, [rpc.base.TrackerCode.REQUEST, config.key, "", 1])
            while not _readable(tracker, min(_PATIENCE_SECONDS, deadline - time.monotonic())):
                require_device(config)
                if time.monotonic() >= deadline:
                    raise TuningError(
                        f"the device {config.key!r} was not free within {wait_seconds:g} s: try again later"
                    )
            _, address = rpc.base.recvjson(tracker)
        except (OSError, ValueError) as error:
            raise TuningError(f"lost the tracker {config.host}:{config.port}: {error}") from None
    url, port, match_key = address
    return rpc.connect(url, port, match_key, session_seconds)


def _summary(config: RpcConfig) -> dict[str, Any]:
    from tvm import rpc

    with _tracker(config) as tracker:
        try:
            rpc.base.sendjson(tracker, [rpc.base.TrackerCode.SUMMARY])
            return rpc.base.recvjson(tracker)[1]
        except (OSError, ValueError) as error:
            raise TuningError(f"lost the tracker {config.host}:{config.port}: {error}") from None


def _tracker(config: RpcConfig) -> socket.socket:
    """Connect to the tracker with a bound on every wait.

    Its messages are two small segments each: without the two options TCP holds back the second for 40 ms.
    """
    from tvm import rpc

    magic = struct.pack("<i", rpc.base.RPC_TRACKER_MAGIC)
    where = f"{config.host}:{config.port}"
    try:
        connection = socket.create_connection((config.host, config.port), timeout=_ANSWER_SECONDS)
    except OSError as error:
        raise TuningError(
            f"no tracker answers at {where} ({error}): start one, or check the address"
        ) from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    try:
        connection.sendall(magic)
        answer = rpc.base.recvall(connection, len(magic))
    except OSError:
        answer = b""
    if answer != magic:
        connection.close()
        raise TuningError(f"what answers at {where} is not a TVM RPC tracker: check host and port")
    return connection


def _readable(connection: socket.socket, seconds: float) -> bool:
    ready, _, _ = select.select([connection], [], [], max(0.0, seconds))
    return bool(ready)


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of the child's watch pipe, and end its process group if it does not do so itself."""
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()
