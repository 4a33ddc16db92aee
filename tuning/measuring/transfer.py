"""Sends a library to a device, whole or not at all: told if it is large, and in a time that fits its size.

TVM sends a file as one message. How much of it has arrived is what the device's side of the connection has
acknowledged, which Linux tells for every TCP connection.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm import rpc

_LEAST_SECONDS = 2.0
_SLOWEST = 64 * 1024
_LARGE = 4 << 20
_TOLD_EVERY_SECONDS = 2.0
_ACKED_AT = 120


class TransferError(Exception):
    """A file did not arrive; the message is one line. ``late`` tells whether it took too long."""

    def __init__(self, message: str, late: bool) -> None:
        super().__init__(message)
        self.late = late


def seconds_for(size: int) -> float:
    """Return how long sending ``size`` bytes may take: a slow link's time, 64 KiB a second."""
    return _LEAST_SECONDS + size / _SLOWEST


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
        Called with a line of progress about every two seconds if the file is large.

    Raises
    ------
    TransferError
        If the connection breaks, the device cannot write it or it takes too long.
    """
    size = path.stat().st_size
    started = time.monotonic()
    with _acknowledged(address) as acknowledged:
        progress = _Progress(size, address, acknowledged, tell)
        with progress.told(size >= _LARGE):
            try:
                remote.upload(str(path), name)
            except Exception as error:
                took = time.monotonic() - started
                raise _failure(progress, took, error) from None


@dataclass(frozen=True)
class _Progress:
    """How far a transfer is."""

    size: int
    address: str
    acknowledged: Callable[[], int]
    tell: Callable[[str], None]

    @property
    def arrived(self) -> int:
        """Bytes that the other side has; the few bytes of TVM's messages count as the file's."""
        return min(self.acknowledged(), self.size)

    @contextmanager
    def told(self, large: bool) -> Iterator[None]:
        """Tell the progress from time to time until the ``with`` block ends."""
        over = threading.Event()
        thread = threading.Thread(target=self._tell_until, args=(over,), daemon=True)
        if large:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if large:
                thread.join()

    def _tell_until(self, over: threading.Event) -> None:
        while not over.wait(_TOLD_EVERY_SECONDS):
            share = 100 * self.arrived // self.size
            self.tell(f"sending {_megabytes(self.size)} MB to {self.address}: {share} %")


def _failure(progress: _Progress, took: float, error: Exception) -> TransferError:
    arrived = f"{_megabytes(progress.arrived)} of {_megabytes(progress.size)} MB had arrived"
    limit = seconds_for(progress.size)
    if took >= limit:
        return TransferError(f"sending the library took longer than {limit:.0f} s: {arrived}", late=True)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = lines[-1] if lines else type(error).__name__
    return TransferError(f"the library could not be sent, {arrived}: {cause}", late=False)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


@contextmanager
def _acknowledged(address: str) -> Iterator[Callable[[], int]]:
    """Give a function that tells how many bytes the device acknowledged; it returns 0 where nobody knows."""
    connection = _connection_to(address)
    before = _acked_bytes(connection)
    try:
        yield lambda: _acked_bytes(connection) - before
    finally:
        if connection is not None:
            connection.close()


def _connection_to(address: str) -> socket.socket | None:
    """Find the connection to the device among this process's files, as TVM does not tell it."""
    _, _, port = address.rpartition(":")
    with suppress(OSError):
        for descriptor in sorted(map(int, os.listdir("/proc/self/fd")), reverse=True):
            if _is_connected(descriptor, int(port)):
                return socket.socket(fileno=os.dup(descriptor))
    return None


def _is_connected(descriptor: int, port: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            inet = connection.family in (socket.AF_INET, socket.AF_INET6)
            return inet and connection.getpeername()[1] == port
    except OSError:
        return False


def _acked_bytes(connection: socket.socket | None) -> int:
    """Return ``tcpi_bytes_acked`` of Linux's ``struct tcp_info``."""
    with suppress(OSError, struct.error, AttributeError):
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return struct.unpack_from("=Q", information, _ACKED_AT)[0]
    return 0
