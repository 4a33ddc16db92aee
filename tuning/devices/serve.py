"""The program of a tracker or an RPC server that belongs to another process.

``serve.py tracker LISTENER`` or ``serve.py server LISTENER TRACKER_HOST TRACKER_PORT KEY``. LISTENER is the
file descriptor of a socket that the parent keeps open, so that a restart keeps the port. Standard input is a
watch pipe: when its other end is closed, by intent or because that process is gone, this process ends with
everything it started.
"""

import socket
import sys

# TVM imports torch wherever it is installed, and that takes more seconds and memory than all the rest.
sys.modules["torch"] = None

from tuning.devices.lifetime import run_until_told  # noqa: E402
from tuning.devices.server import DeviceServer  # noqa: E402
from tuning.devices.tracker_server import TrackerServer  # noqa: E402


def main() -> None:
    """Serve until standard input ends."""
    role, listening, *words = sys.argv[1:]
    listener = socket.socket(fileno=int(listening))
    if role == "tracker":
        server = TrackerServer(listener)
    else:
        host, port, key = words
        server = DeviceServer(listener, (host, int(port)), key, listener.getsockname()[0])
    run_until_told(server.run(), sys.stdin.fileno())


if __name__ == "__main__":
    main()
