"""The program of the local tracker and the local RPC server.

Prints the port it listens on as one line of JSON. Standard input is a watch pipe: when its other end is
closed, by intent or because that process is gone, this process ends with everything it started, the server's
forked sessions included, and removes its temporary files.
"""

import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
from typing import Any

from tvm.rpc.server import PopenRPCServerState
from tvm.rpc.tracker import PopenTrackerServerState

_HOST = "127.0.0.1"
_FIRST_PORTS = (20_000, 30_000)
_PORTS_TRIED = 1_000


def main() -> None:
    """Serve as ``tracker``, or as ``server TRACKER_PORT KEY``, until standard input ends."""
    socket.socket = _PromptSocket
    tempfile.tempdir = tempfile.mkdtemp(prefix="deeprebirth-rpc-")
    threading.Thread(target=_watch, args=(tempfile.tempdir,), daemon=True).start()
    if sys.argv[1] == "tracker":
        _serve_tracker()
    else:
        _serve_device(int(sys.argv[2]), sys.argv[3])


def _watch(temporary: str) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    shutil.rmtree(temporary, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _serve_tracker() -> None:
    first = random.randrange(*_FIRST_PORTS)
    tracker = PopenTrackerServerState(_HOST, first, first + _PORTS_TRIED, silent=True)
    _announce(tracker.port)
    tracker.thread.join()


def _serve_device(tracker_port: int, key: str) -> None:
    """Serve one session after the other.

    Upstream's server ends when the code of a session crashes, as candidates do: then a new one takes over.
    """
    here = os.getcwd()
    server = _start_server(tracker_port, key)
    _announce(server.port)
    while True:
        server.thread.join()
        server.sock.close()
        os.chdir(here)
        server = _start_server(tracker_port, key)


def _start_server(tracker_port: int, key: str) -> PopenRPCServerState:
    first = random.randrange(*_FIRST_PORTS)
    return PopenRPCServerState(
        _HOST,
        first,
        first + _PORTS_TRIED,
        tracker_addr=(_HOST, tracker_port),
        key=key,
        custom_addr=_HOST,
        silent=True,
    )


class _PromptSocket(socket.socket):
    """A TCP socket that sends every segment at once.

    TVM sends a message as two small segments. TCP would hold back the second for 40 ms, and tracker and
    server exchange several between two sessions.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM:
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _announce(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)


if __name__ == "__main__":
    main()
