"""Listening for connections, and which addresses are the machine's own."""

import errno
import ipaddress
import random
import socket

from tuning.errors import TuningError

LOOPBACK = "127.0.0.1"
_PORTS = (20_000, 30_000)
_ATTEMPTS = 100
_BACKLOG = 64


def listen(host: str, port: int | None = None) -> socket.socket:
    """Listen on a port; on a free one below those that the system gives to clients, if none is named.

    Raises
    ------
    TuningError
        If that cannot be; the message says what to do.
    """
    candidates = [port] if port is not None else random.sample(range(*_PORTS), _ATTEMPTS)
    for candidate in candidates:
        try:
            return _bound(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or error
                raise TuningError(f"cannot listen on {host}:{candidate}: {reason}") from None
    raise TuningError(
        f"port {candidates[-1]} of {host} is in use: end the program that has it, or choose another port"
    )


def is_loopback(host: str) -> bool:
    """Tell whether the name or address leads to this machine alone."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(address[0].partition("%")[0]).is_loopback for *_, address in found)


def is_wildcard(host: str) -> bool:
    """Tell whether the address stands for every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
