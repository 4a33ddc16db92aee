"""Sends a library to a device, whole or not at all: told if it is large, and in a time that fits its size.

TVM sends a file as one message. How much of it has arrived is what the device's side of the connection has
acknowledged, which Linux tells for every TCP connection.
"""

import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tvm import rpc

SLOWEST = 64 * 1024
"""Bytes a second of the slowest link that is waited for."""

_LEAST_SECONDS = 2.0
_LARGE = 4 << 20
_TOLD_EVERY_SECONDS = 1.0
_ACKED_AT = 120


class TransferError(Exception):
    """A file did not arrive; the message is one line. ``late`` tells whether it took too long."""

    def __init__(self, message: str, late: bool) -> None:
        super().__init__(message)
        self.late = late


def seconds_for(size: int) -> float:
    """Return how long sending ``size`` bytes may take: a slow link's time."""
    return _LEAST_SECONDS + size / SLOWEST


def send(remote: "rpc.RPCSession", path: Path, name: str, address: str, tell: Callable[[str], None]) -> None:
    """Send a file.

    Parameters
    ----------
    remote : tvm.rpc.RPCSession
        The session with the device.
    path : Path
        The file.
    name : str
        What it is called on the device.
    address : str
        The device's, ``host:port``.
    tell : callable
        Called with a line of progress about every second if the file is large.

    Raises
    ------
    TransferError
        If the connection breaks, the device cannot write it or it takes too long.
    """
    size = path.stat().st_size
    with _Transfer(size, address, tell) as transfer:
        try:
            remote.upload(str(path), name)
        except Exception as error:
            raise transfer.failure(error) from None


class _Transfer:
    """A transfer, watched by a thread until the ``with`` block ends, and broken off if it takes too long."""

    def __init__(self, size: int, address: str, tell: Callable[[str], None]) -> None:
        self._size = size
        self._address = address
        self._tell = tell
        self._limit = seconds_for(size)
        self._deadline = time.monotonic() + self._limit
        self._over = threading.Event()
        self._connection = _connection_to(address)
        self._before = _acked_bytes(self._connection)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def failure(self, error: Exception) -> TransferError:
        """Return in words why it failed."""
        arrived = f"{_megabytes(self._arrived)} of {_megabytes(self._size)} MB had arrived"
        if time.monotonic() >= self._deadline:
            return TransferError(f"sending the library took longer than {self._limit:.0f} s: {arrived}", True)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = lines[-1] if lines else type(error).__name__
        return TransferError(f"the library could not be sent, {arrived}: {cause}", False)

    @property
    def _arrived(self) -> int:
        """Bytes that the other side has; the few bytes of TVM's messages count as the file's."""
        return min(_acked_bytes(self._connection) - self._before, self._size)

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._over.wait(min(_TOLD_EVERY_SECONDS, left)):
                return
            if self._size >= _LARGE:
                share = 100 * self._arrived // self._size
                self._tell(f"sending {_megabytes(self._size)} MB to {self._address}: {share} %")
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def _connection_to(address: str) -> socket.socket | None:
    """Find the connection to the device among this process's files, as TVM does not tell it."""
    host, _, port = address.rpartition(":")
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        places = {place[:2] for *_, place in found}
        for descriptor in sorted(map(int, os.listdir("/proc/self/fd")), reverse=True):
            if _other_end(descriptor) in places:
                return socket.socket(fileno=os.dup(descriptor))
    return None


def _other_end(descriptor: int) -> tuple[str, int] | None:
    """Return the address and port that a file is connected to; None if it is no such connection."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            inet = connection.family in (socket.AF_INET, socket.AF_INET6)
            return connection.getpeername()[:2] if inet else None
    except OSError:
        return None


def _acked_bytes(connection: socket.socket | None) -> int:
    """Return ``tcpi_bytes_acked`` of Linux's ``struct tcp_info``."""
    with suppress(OSError, struct.error, AttributeError):
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("=Q", information, _ACKED_AT)[0]
    return 0
