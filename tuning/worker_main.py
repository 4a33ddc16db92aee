"""The program of a worker process: receives calls through an inherited socket and answers them."""

import math
import pickle
import signal
import sys
from multiprocessing.connection import Connection

import tuning  # here, so that no call pays for it

_GRACE_SECONDS = 10


def main() -> None:
    """Answer calls until the other end of the socket is closed.

    The other side ends a worker that is late. Should it be gone itself, the alarm clock does: its default
    action needs neither Python nor its lock.
    """
    connection = Connection(int(sys.argv[1]))
    try:
        connection.send_bytes(pickle.dumps((None, None)))
        while True:
            call = pickle.loads(connection.recv_bytes())
            signal.alarm(math.ceil(call.seconds) + _GRACE_SECONDS)
            reply = _answer(call)
            signal.alarm(0)
            connection.send_bytes(reply)
    except (EOFError, OSError):
        return


def _answer(call: "tuning.worker.Call") -> bytes:
    try:
        return pickle.dumps((call.function(*call.arguments), None))
    except Exception as error:
        return pickle.dumps((None, _in_one_line(error)))


def _in_one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


if __name__ == "__main__":
    main()
