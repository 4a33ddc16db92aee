"""The tracker, asked for devices: every wait has a bound, and every message says what to do."""

import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuning.errors import TuningError

if TYPE_CHECKING:
    from tvm import rpc

_ANSWER_SECONDS = 10.0
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class RpcConfig:
    """Where the tracker listens, and the key of the device to ask it for."""

    host: str
    port: int
    key: str


@dataclass(frozen=True)
class Lease:
    """A device that was asked for: TVM's RPC session with it, and its address, ``host:port``."""

    remote: "rpc.RPCSession"
    address: str


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


def request(config: RpcConfig, wait_seconds: float, session_seconds: float) -> Lease:
    """Take a device that serves the key and open a session with it.

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
    return Lease(rpc.connect(url, port, match_key, session_seconds), f"{url}:{port}")


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
