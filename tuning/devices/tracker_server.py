"""The tracker: hands devices that serve a key to clients that ask for it.

It speaks the protocol of TVM's own tracker, to TVM's servers and clients too. Unlike that one it forgets the
request of a client that is gone, hands no device to it, and tells which devices are free.
"""

import asyncio
import heapq
import itertools
import socket
from dataclasses import dataclass, field
from typing import Any

from tuning.devices.protocol import (
    SERVER,
    TRACKER_MAGIC,
    TrackerCode,
    frame,
    number,
    prepare,
    read_frame,
    read_number,
)

_GREETING_SECONDS = 10.0


@dataclass(eq=False)
class _Peer:
    """Someone connected: a device with its offers, or a client with its requests."""

    writer: asyncio.StreamWriter
    host: str
    facts: dict[str, Any] = field(default_factory=dict)

    def tell(self, value: Any) -> None:
        self.writer.write(frame(value))


@dataclass(frozen=True, eq=False)
class _Offer:
    """A device that is free: where, and the key that lets a client in once."""

    peer: _Peer
    host: str
    port: int
    match_key: str


@dataclass(order=True)
class _Request:
    rank: tuple[int, int]
    peer: _Peer = field(compare=False)


class TrackerServer:
    """The tracker that listens on a socket."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._peers: set[_Peer] = set()
        self._offers: dict[str, list[_Offer]] = {}
        self._requests: dict[str, list[_Request]] = {}
        self._counter = itertools.count()

    async def run(self) -> None:
        """Serve until cancelled."""
        server = await asyncio.start_server(self._welcome, sock=self._listener)
        try:
            await server.serve_forever()
        finally:
            for peer in list(self._peers):
                peer.writer.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prepare(writer.get_extra_info("socket"))
        peer = _Peer(writer, writer.get_extra_info("peername")[0])
        self._peers.add(peer)
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                greeted = await read_number(reader) == TRACKER_MAGIC
            if greeted:
                writer.write(number(TRACKER_MAGIC))
                await self._listen(peer, reader)
        except (OSError, EOFError, LookupError, TypeError, ValueError):
            pass
        finally:
            self._forget(peer)
            writer.close()

    async def _listen(self, peer: _Peer, reader: asyncio.StreamReader) -> None:
        while True:
            code, *words = await read_frame(reader)
            match code:
                case TrackerCode.PUT:
                    self._put(peer, *words)
                case TrackerCode.REQUEST:
                    self._request(peer, *words)
                case TrackerCode.UPDATE_INFO:
                    self._update(peer, *words)
                case TrackerCode.SUMMARY:
                    peer.tell([TrackerCode.SUCCESS, self._summary()])
                case TrackerCode.GET_PENDING_MATCHKEYS:
                    peer.tell([offer.match_key for offer in self._offers_of(peer)])
                case TrackerCode.PING:
                    peer.tell(TrackerCode.SUCCESS)
                case _:
                    peer.tell(TrackerCode.FAIL)
            await peer.writer.drain()

    def _put(self, peer: _Peer, key: str, place: list, host: str | None = None) -> None:
        port, match_key = place
        self._offers.setdefault(key, []).append(_Offer(peer, host or peer.host, port, match_key))
        peer.tell(TrackerCode.SUCCESS)
        self._hand_out(key)

    def _request(self, peer: _Peer, key: str, _user: str, priority: int) -> None:
        heapq.heappush(self._requests.setdefault(key, []), _Request((-priority, next(self._counter)), peer))
        self._hand_out(key)

    def _hand_out(self, key: str) -> None:
        offers, requests = self._offers.get(key, []), self._requests.get(key, [])
        while offers and requests:
            offer = offers.pop(0)
            client = heapq.heappop(requests).peer
            client.tell([TrackerCode.SUCCESS, [offer.host, offer.port, offer.match_key]])

    def _update(self, peer: _Peer, facts: dict[str, Any]) -> None:
        host, port = facts["addr"]
        peer.facts = facts | {"addr": [host or peer.host, port]}
        peer.tell(TrackerCode.SUCCESS)

    def _summary(self) -> dict[str, Any]:
        keys = self._offers.keys() | self._requests.keys()
        return {
            "queue_info": {
                key: {"free": len(self._offers.get(key, [])), "pending": len(self._requests.get(key, []))}
                for key in keys
            },
            "server_info": [
                peer.facts | {"free": bool(self._offers_of(peer))}
                for peer in self._peers
                if str(peer.facts.get("key", "")).startswith(SERVER)
            ],
        }

    def _offers_of(self, peer: _Peer) -> list[_Offer]:
        return [offer for offers in self._offers.values() for offer in offers if offer.peer is peer]

    def _forget(self, peer: _Peer) -> None:
        """Drop the offers and requests of someone who is gone."""
        self._peers.discard(peer)
        for offers in self._offers.values():
            offers[:] = [offer for offer in offers if offer.peer is not peer]
        for requests in self._requests.values():
            requests[:] = [request for request in requests if request.peer is not peer]
            heapq.heapify(requests)
