"""The tracker, asked for devices: every wait has a bound, and every message says what to do."""

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from targets import DeviceTraits
from tuning.devices.ending import Ending
from tuning.devices.facts import DeviceFacts
from tuning.devices.protocol import (
    CLIENT,
    ENDED,
    RPC_MAGIC,
    RPC_SUCCESS,
    SERVER,
    TRACKER_MAGIC,
    TrackerCode,
    as_number,
    frame,
    number,
    prepare,
    receive,
    receive_frame,
    text,
)
from tuning.errors import Mistake, TuningError, last_line

if TYPE_CHECKING:
    from tvm import rpc

LAST_END = "deeprebirth.last_end"
DEVICE = "deeprebirth.device"
TRAITS = "deeprebirth.traits"
_ANSWER_SECONDS = 10.0
_PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.05
_ENDING_SECONDS = 1.0


class DeviceAway(TuningError):
    """The tracker does not answer, or no device serves the key; either may come back."""


@dataclass(frozen=True)
class RpcConfig:
    """Where the tracker listens, and the key of the device to ask it for."""

    host: str
    port: int
    key: str


@dataclass(frozen=True)
class Lease:
    """A device that was asked for.

    Attributes
    ----------
    remote : tvm.rpc.RPCSession
        TVM's session with it.
    address : str
        Where it is, ``host:port``.
    match_key : str
        What let us in; no other session has the same.
    """

    remote: "rpc.RPCSession"
    address: str
    match_key: str = ""


@dataclass(frozen=True)
class Device:
    """A device at a tracker.

    Attributes
    ----------
    address : str
        Where it is, ``host:port``.
    key : str
        The key that it serves.
    free : bool or None
        Whether nobody uses it; None if the tracker does not tell.
    """

    address: str
    key: str
    free: bool | None


def devices(config: RpcConfig, away_seconds: float = 0.0) -> tuple[Device, ...]:
    """Return the devices at the tracker, whatever their key, in the order of key and address.

    Parameters
    ----------
    away_seconds : float
        How long a tracker that does not answer is waited for.

    Raises
    ------
    DeviceAway
        If no tracker answers there in time.
    """
    summary = _patiently(away_seconds, lambda: _summary(config))
    found = [_device(server, summary["queue_info"]) for server in summary["server_info"]]
    return tuple(sorted(found, key=lambda device: (device.key, device.address)))


def served_keys(config: RpcConfig, away_seconds: float = 0.0) -> dict[str, int]:
    """Return the keys that devices serve at the tracker, and how many devices of each are registered.

    Raises
    ------
    DeviceAway
        If no tracker answers there in time.
    """
    return _keys(_patiently(away_seconds, lambda: _summary(config)))


def require_device(config: RpcConfig, away_seconds: float = 0.0) -> None:
    """Check that some device serves the key.

    Raises
    ------
    DeviceAway
        If none does in time; the message names the keys that are served.
    """
    _patiently(away_seconds, lambda: _insist(config, served_keys(config)))


def wait_for_device(config: RpcConfig, seconds: float, count: int = 1) -> None:
    """Wait until so many devices with the key are free; the tracker may be away meanwhile.

    Raises
    ------
    TuningError
        If they are not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while not _are_free(config, count, deadline):
        if time.monotonic() >= deadline:
            require_device(config)
            raise _not_free(config, seconds)
        time.sleep(_POLL_SECONDS)


def request(
    config: RpcConfig, wait_seconds: float, session_seconds: float, away_seconds: float = 0.0
) -> Lease:
    """Take a device that serves the key and open a session with it.

    A device that does not answer is passed over for the next one. When this gives up, it closes its
    connection to the tracker, which forgets the request; TVM's own tracker does so when a device comes free.

    Parameters
    ----------
    wait_seconds : float
        How long to wait for a device that is registered but in use.
    session_seconds : float
        After so many seconds the device ends the session.
    away_seconds : float
        How long to wait for the tracker, or for a device to serve the key, if there is none.

    Raises
    ------
    DeviceAway
        If no device serves the key; the message names those served.
    TuningError
        If none comes free in time.
    """
    deadline = time.monotonic() + wait_seconds
    unreachable: DeviceAway | None = None
    while True:
        try:
            host, port, match_key = _patiently(away_seconds, lambda: _take(config, deadline, wait_seconds))
        except TuningError as error:
            raise unreachable or error from None
        try:
            return Lease(_connected(host, port, match_key, session_seconds), f"{host}:{port}", match_key)
        except (RuntimeError, OSError) as error:
            unreachable = DeviceAway(
                f"the device {config.key!r} at {host}:{port} does not answer ({last_line(error)}): "
                "check that its server runs and that its address can be reached from here"
            )


def last_end(lease: Lease) -> Ending | None:
    """Return how the session before this one ended on the lease's server.

    None if there was none, or the server does not tell.
    """
    told = _asked(lease, LAST_END)
    return None if told is None else Ending.from_json(told)


def ending(lease: Lease) -> Ending | None:
    """Return how the lease's own session ended; its server is asked, whatever it does meanwhile.

    None if it does not tell: it is another program than ours, or was ended itself.
    """
    host, _, port = lease.address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS) as connection:
            prepare(connection)
            connection.sendall(number(RPC_MAGIC) + text(f"{CLIENT}{ENDED}{lease.match_key}"))
            if as_number(receive(connection, 4)) != RPC_SUCCESS:
                return None
            return Ending.from_json(receive(connection, as_number(receive(connection, 4))).decode())
    except (OSError, ValueError):
        return None


def ending_soon(lease: Lease) -> Ending | None:
    """Return how the lease's session ended, asking for a while: a server may hear of it later than we."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while (found := ending(lease)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return found


def device_facts(lease: Lease) -> DeviceFacts | None:
    """Return what the lease's device says of itself; None if its server does not know."""
    told = _asked(lease, DEVICE)
    return None if told is None else DeviceFacts.from_json(told)


def ask_traits(config: RpcConfig, wait_seconds: float) -> DeviceTraits:
    """Return what tells the kind of a device that serves the key.

    Raises
    ------
    Mistake
        If no device serves the key, or its server does not say.
    TuningError
        If none is free within so many seconds.
    """
    try:
        lease = request(config, wait_seconds, wait_seconds)
    except DeviceAway as error:
        raise Mistake(str(error)) from None
    traits = device_traits(lease)
    if traits is None:
        raise Mistake(f"the device {lease.address} does not say what it is: name its target with --target")
    return traits


def device_traits(lease: Lease) -> DeviceTraits | None:
    """Return what tells the kind of the lease's device; None if its server does not know."""
    told = _asked(lease, TRAITS)
    return None if told is None else DeviceTraits.from_json(told)


def _keys(summary: dict[str, Any]) -> dict[str, int]:
    return Counter(server["key"].removeprefix(SERVER) for server in summary["server_info"])


def _device(server: dict[str, Any], queues: dict[str, Any]) -> Device:
    host, port = server["addr"]
    key = server["key"].removeprefix(SERVER)
    nobody_is_free = queues.get(key, {}).get("free", 0) == 0
    return Device(f"{host}:{port}", key, server.get("free", False if nobody_is_free else None))


def _are_free(config: RpcConfig, count: int, deadline: float) -> bool:
    try:
        return _summary(config)["queue_info"].get(config.key, {}).get("free", 0) >= count
    except DeviceAway:
        if time.monotonic() >= deadline:
            raise
        return False


def _summary(config: RpcConfig) -> dict[str, Any]:
    with _Connection(config) as tracker:
        return tracker.ask([TrackerCode.SUMMARY])[1]


def _take(config: RpcConfig, deadline: float, wait_seconds: float) -> tuple[str, int, str]:
    """Get the address of a device from the tracker, and the key that it lets us in with."""
    with _Connection(config) as tracker:
        _insist(config, _keys(tracker.ask([TrackerCode.SUMMARY])[1]))
        tracker.send([TrackerCode.REQUEST, config.key, "", 1])
        while not tracker.answers_within(min(_PATIENCE_SECONDS, deadline - time.monotonic())):
            require_device(config)
            if time.monotonic() >= deadline:
                raise _not_free(config, wait_seconds)
        _, (host, port, match_key) = tracker.receive()
        return host, port, match_key


def _insist(config: RpcConfig, keys: dict[str, int]) -> None:
    if config.key not in keys:
        there = ", ".join(sorted(keys)) or "none"
        raise DeviceAway(
            f"no device serves the key {config.key!r} at the tracker {config.host}:{config.port}: "
            f"keys served there: {there}"
        )


def _not_free(config: RpcConfig, seconds: float) -> TuningError:
    return TuningError(f"the device {config.key!r} was not free within {seconds:g} s: try again later")


def _connected(host: str, port: int, match_key: str, session_seconds: float) -> "rpc.RPCSession":
    from tvm import rpc

    return _within(_ANSWER_SECONDS, lambda: rpc.connect(host, port, match_key, session_seconds))


def _asked(lease: Lease, name: str) -> str | None:
    """Call a function of the device that returns text; None if it has no such function or does not answer."""
    try:
        return str(_within(_ANSWER_SECONDS, lambda: lease.remote.get_function(name)()))
    except (RuntimeError, AttributeError, OSError):
        return None


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """Call a function of TVM, which knows no time limit.

    Raises
    ------
    TimeoutError
        If it has not returned after so many seconds; a thread waits on for it then.
    """
    outcome: list[tuple[Any, Exception | None]] = []

    def call() -> None:
        try:
            outcome.append((function(), None))
        except Exception as error:
            outcome.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} s")
    value, error = outcome.pop()
    try:
        if error is not None:
            raise error
        return value
    finally:
        del error  # whose frames hold the session, which would stay open until they are collected


def _patiently(seconds: float, function: Callable[[], Any]) -> Any:
    """Call a function again and again until it does not find someone away, or time is over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return function()
        except DeviceAway:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)


class _Connection:
    """A connection to the tracker, with a bound on every wait.

    Raises
    ------
    DeviceAway
        If no tracker answers, or it leaves.
    """

    def __init__(self, config: RpcConfig) -> None:
        self._where = f"{config.host}:{config.port}"
        try:
            self._socket = socket.create_connection((config.host, config.port), timeout=_ANSWER_SECONDS)
        except (OSError, UnicodeError) as error:
            raise DeviceAway(
                f"no tracker answers at {self._where} ({error}): start one, or check the address"
            ) from None
        prepare(self._socket)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def __enter__(self) -> Self:
        try:
            self._socket.sendall(number(TRACKER_MAGIC))
            answer = receive(self._socket, 4)
        except OSError as error:
            self._socket.close()
            raise self._lost(error) from None
        if as_number(answer) != TRACKER_MAGIC:
            self._socket.close()
            raise Mistake(f"what answers at {self._where} is not a TVM RPC tracker: check host and port")
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def send(self, message: list[Any]) -> None:
        """Send a message."""
        try:
            self._socket.sendall(frame(message))
        except OSError as error:
            raise self._lost(error) from None

    def receive(self) -> Any:
        """Receive an answer."""
        try:
            return receive_frame(self._socket)
        except (OSError, ValueError) as error:
            raise self._lost(error) from None

    def ask(self, message: list[Any]) -> Any:
        """Send a message and return the answer."""
        self.send(message)
        return self.receive()

    def answers_within(self, seconds: float) -> bool:
        """Wait for an answer, and tell whether there is one to receive."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        return bool(ready)

    def _lost(self, error: Exception) -> DeviceAway:
        return DeviceAway(f"lost the tracker {self._where} ({error}): check that it runs")
