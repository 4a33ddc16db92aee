"""A device's RPC server: offers itself to a tracker and serves one session after the other.

It speaks TVM's protocol, and lives through whatever happens: a session is a process of its own, which may
crash or hang; a tracker that is gone is looked for until it is back; who connects and says nothing is let go.
"""

import asyncio
import json
import math
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import tvm

from tuning.devices.ending import Ending
from tuning.devices.protocol import (
    CLIENT,
    ENDED,
    RPC_MAGIC,
    RPC_MISMATCH,
    RPC_SUCCESS,
    SERVER,
    TRACKER_MAGIC,
    TrackerCode,
    as_number,
    frame,
    number,
    prepare,
    read_frame,
    read_number,
    text,
)
from tuning.devices.scratch import server_folder, session_folder
from tuning.devices.session_process import run_session

_GREETING_SECONDS = 10.0
_CHECK_SECONDS = 2.0
_UNUSED_CHECKS = 3
_RETRY_SECONDS = (0.1, 5.0)
_SEND_TIME = struct.pack("ll", 5, 0)
_LONGEST_KEY = 4096
_ENDINGS_KEPT = 64
_TIMEOUT = "-timeout="
_AWAY = (OSError, EOFError, TypeError, ValueError)


class DeviceServer:
    """The server that listens on a socket.

    Parameters
    ----------
    listener : socket.socket
    tracker : tuple of str and int
        The tracker's address.
    key : str
        The key to serve.
    host : str or None
        The address that the tracker gives to clients; None if it is the one that it sees.
    say : callable
        Is told in words what happens.
    check_seconds : float
        How often a free device looks whether the tracker still offers it.
    """

    def __init__(
        self,
        listener: socket.socket,
        tracker: tuple[str, int],
        key: str,
        host: str | None,
        say: Callable[[str], None] = lambda line: None,
        check_seconds: float = _CHECK_SECONDS,
    ) -> None:
        self._listener = listener
        self._tracker = tracker
        self._key = key
        self._host = host
        self._say = say
        self._check_seconds = check_seconds
        self._port: int = listener.getsockname()[1]
        self._match_key: str | None = None
        self._busy = False
        self._changed = asyncio.Event()
        self._sessions = 0
        self._endings: deque[tuple[str, Ending]] = deque(maxlen=_ENDINGS_KEPT)

    async def run(self) -> None:
        """Serve until cancelled."""
        self._listener.setblocking(False)
        with server_folder() as self._folder:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stay_registered())
                tasks.create_task(self._accept(tasks))

    async def _stay_registered(self) -> None:
        """Offer the device at the tracker, again and again if the tracker goes and comes."""
        shortest, longest = _RETRY_SECONDS
        delay = shortest
        told_away = False
        where = "{}:{}".format(*self._tracker)
        while True:
            writer = None
            try:
                async with asyncio.timeout(_GREETING_SECONDS):
                    reader, writer = await asyncio.open_connection(*self._tracker)
                    await self._introduce(reader, writer)
                self._say(f"registered as {self._key} at the tracker {where}")
                delay, told_away = shortest, False
                await self._offer(reader, writer)
            except _AWAY as error:
                if not told_away:
                    self._say(f"the tracker {where} is not there ({error or 'no answer'}): looking for it")
                told_away = True
            finally:
                if writer is not None:
                    writer.close()
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)

    async def _introduce(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prepare(writer.get_extra_info("socket"))
        writer.write(number(TRACKER_MAGIC))
        if await read_number(reader) != TRACKER_MAGIC:
            raise ValueError("what answers there is no tracker")
        facts = {"key": SERVER + self._key, "addr": [self._host, self._port]}
        await _ask(reader, writer, [TrackerCode.UPDATE_INFO, facts])

    async def _offer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Offer the device whenever it is free, until the tracker is gone.

        An offer that was taken by a client that does not come is made anew.
        """
        self._match_key = None
        unused = 0
        while True:
            if self._match_key is not None:
                pending = await _ask(reader, writer, [TrackerCode.GET_PENDING_MATCHKEYS])
                unused = 0 if self._match_key in pending else unused + 1
            if not self._busy and (self._match_key is None or unused >= _UNUSED_CHECKS):
                self._match_key = f"{self._key}:{random.random()}"
                unused = 0
                place = [self._port, self._match_key]
                await _ask(reader, writer, [TrackerCode.PUT, self._key, place, self._host])
            await self._change(reader)

    async def _change(self, reader: asyncio.StreamReader) -> None:
        """Wait until a session ended or some time passed.

        Raises
        ------
        ConnectionError
            If the tracker closed the connection.
        """
        closed = asyncio.ensure_future(reader.read(1))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait(
                {closed, changed}, timeout=self._check_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            self._changed.clear()
            if closed.done():
                raise ConnectionError("it closed the connection")
        finally:
            closed.cancel()
            changed.cancel()
            await asyncio.gather(closed, changed, return_exceptions=True)

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS[0])
                continue
            tasks.create_task(self._welcome(connection, address[0]))

    async def _welcome(self, connection: socket.socket, client: str) -> None:
        """Find out what the client wants, and serve its session if the tracker gave it the device."""
        with connection:
            try:
                prepare(connection)
                connection.setblocking(False)
                async with asyncio.timeout(_GREETING_SECONDS):
                    words = await _greeting(connection)
                    if self._match_key is None or words[0] != CLIENT + self._match_key:
                        await _send(connection, self._answer(words[0]))
                        return
                await self._serve(connection, client, self._match_key, _time_limit(words))
            except _AWAY as error:
                self._say(f"a connection from {client} failed: {error or 'it said nothing'}")

    def _answer(self, word: str) -> bytes:
        """Tell how a session ended, if that is what is asked; otherwise the key is one of another time."""
        asked = word.removeprefix(CLIENT + ENDED)
        for match_key, ending in self._endings:
            if match_key == asked:
                return number(RPC_SUCCESS) + text(ending.to_json())
        return number(RPC_MISMATCH)

    async def _serve(
        self, connection: socket.socket, client: str, match_key: str, seconds: float | None
    ) -> None:
        self._match_key, self._busy = None, True
        self._sessions += 1
        self._say(f"session {self._sessions} of {client}")
        try:
            await _send(connection, number(RPC_SUCCESS) + text(SERVER + self._key))
            connection.setblocking(True)
            last = self._endings[-1][1].to_json() if self._endings else json.dumps(None)
            with session_folder(self._folder) as folder:
                status, late = await run_session(connection, folder, last, seconds)
            ending = Ending.of(self._sessions, status, late)
            self._endings.append((match_key, ending))
            self._say(f"session {self._sessions}: {ending}")
            if late:
                _tell_late(connection, seconds)
        finally:
            self._busy = False
            self._changed.set()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: list[Any]) -> Any:
    async with asyncio.timeout(_GREETING_SECONDS):
        writer.write(frame(message))
        return await read_frame(reader)


async def _greeting(connection: socket.socket) -> list[str]:
    """Receive a client's first words: its key and its options."""
    magic, length = as_number(await _receive(connection, 4)), as_number(await _receive(connection, 4))
    if magic != RPC_MAGIC or not 0 < length <= _LONGEST_KEY:
        raise ValueError("it is no client of TVM")
    return (await _receive(connection, length)).decode().split() or [""]


async def _receive(connection: socket.socket, size: int) -> bytes:
    """Receive so many bytes and not one more: what follows is for the session's process."""
    data = b""
    while len(data) < size:
        piece = await asyncio.get_running_loop().sock_recv(connection, size - len(data))
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    return data


async def _send(connection: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(_GREETING_SECONDS):
        await asyncio.get_running_loop().sock_sendall(connection, data)


def _time_limit(words: list[str]) -> float | None:
    """Return the seconds that a client gives its session; None if it gives no limit.

    Raises
    ------
    ValueError
        If they are no number.
    """
    given = [float(word.removeprefix(_TIMEOUT)) for word in words if word.startswith(_TIMEOUT)]
    if any(math.isnan(seconds) for seconds in given):
        raise ValueError("its time limit is no number")
    return given[-1] if given else None


def _tell_late(connection: socket.socket, seconds: float | None) -> None:
    """Answer the call that took too long, as TVM's server does.

    What the client sent meanwhile is read, since closing a connection with unread bytes in it takes the
    answer back.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIME)
    with suppress(Exception):
        tvm.get_global_func("rpc.ReturnException")(
            connection.fileno(), f"RPCSessionTimeoutError: the session took longer than its {seconds:g} s"
        )
    connection.setblocking(False)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass
