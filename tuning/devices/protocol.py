"""TVM's words on the wire: of clients and servers to each other, and of both to the tracker.

A client greets a server with ``[RPC_MAGIC, length, "client:" + match key + options]``. With the tracker every
message is a frame: its length, then JSON. TVM sends the two as two small segments, of which TCP would hold
back the second for 40 ms; here a frame is one segment.
"""

import asyncio
import json
import socket
import struct
from enum import IntEnum
from typing import Any

RPC_MAGIC = 0xFF271
RPC_SUCCESS = RPC_MAGIC
RPC_MISMATCH = RPC_MAGIC + 2
TRACKER_MAGIC = 0x2F271
CLIENT = "client:"
SERVER = "server:"
ENDED = "deeprebirth.ended:"
"""Before the match key of a session: its client asks the server how that session ended."""

_FRAME_LIMIT = 1 << 20
_LENGTH = struct.Struct("<i")
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class TrackerCode(IntEnum):
    """The first element of a message to the tracker, and the one of its answers."""

    FAIL = -1
    SUCCESS = 0
    PING = 1
    STOP = 2
    PUT = 3
    REQUEST = 4
    UPDATE_INFO = 5
    SUMMARY = 6
    GET_PENDING_MATCHKEYS = 7


def number(value: int) -> bytes:
    """Encode a magic number or a length."""
    return _LENGTH.pack(value)


def as_number(data: bytes) -> int:
    """Decode a magic number or a length."""
    return _LENGTH.unpack(data)[0]


def frame(value: Any) -> bytes:
    """Encode a message."""
    data = json.dumps(value).encode()
    return number(len(data)) + data


def text(value: str) -> bytes:
    """Encode a key: its length and its letters."""
    data = value.encode()
    return number(len(data)) + data


def receive(connection: socket.socket, size: int) -> bytes:
    """Receive so many bytes.

    Raises
    ------
    OSError
        If the other side closed the connection before, or its time-out passed.
    """
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("the connection was closed")
        data += piece
    return data


def receive_frame(connection: socket.socket) -> Any:
    """Receive a message.

    Raises
    ------
    OSError
        If the other side closed the connection before, or its time-out passed.
    ValueError
        If it is no message.
    """
    return json.loads(receive(connection, frame_size(receive(connection, _LENGTH.size))))


async def read_number(reader: asyncio.StreamReader) -> int:
    """Read a magic number or a length."""
    return as_number(await reader.readexactly(_LENGTH.size))


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Read a message.

    Raises
    ------
    asyncio.IncompleteReadError
        If the other side closed the connection before.
    ValueError
        If it is no message.
    """
    return json.loads(await reader.readexactly(frame_size(await reader.readexactly(_LENGTH.size))))


def frame_size(data: bytes) -> int:
    """Decode the length of a frame.

    Raises
    ------
    ValueError
        If no message is that long.
    """
    size = as_number(data)
    if not 0 < size <= _FRAME_LIMIT:
        raise ValueError(f"a message of {size} bytes")
    return size


def prepare(connection: socket.socket) -> None:
    """Let a connection send every segment at once, and notice in half a minute that its other end is gone."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
