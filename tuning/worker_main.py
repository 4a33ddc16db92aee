"""The program of the fork server and of its workers.

The server imports TVM, without PyTorch, which TVM would import if it could: that makes the import three times
as fast and the process half as large. Then it forks a worker for each socket that it is sent. A worker
receives calls through its socket and answers them.
"""

import gc
import math
import os
import pickle
import signal
import socket
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuning.worker import Call

_GRACE_SECONDS = 10
_OUT_OF_MEMORY = ("bad_alloc", "cannot allocate memory")


def main() -> None:
    """Fork workers until the other end of the socket is closed."""
    _import_once()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            question, descriptors, _, _ = socket.recv_fds(control, 64, 1)
            if not question:
                return
            answer = _fork(control, descriptors[0]) if descriptors else _reap(int(question.split()[1]))
            control.send(str(answer).encode())


def _import_once() -> None:
    """Import what calls need and start no thread by it: NumPy's BLAS would, for work it is not given here."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.modules["torch"] = None
    try:
        from tuning.intrinsics import import_cpu_intrinsics

        import_cpu_intrinsics()
    finally:
        del sys.modules["torch"]
    gc.freeze()


def _fork(control: socket.socket, descriptor: int) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            control.close()
            os.setsid()
            _answer_calls(Connection(descriptor))
            code = 0
        finally:
            os._exit(code)
    os.close(descriptor)
    return pid


def _reap(pid: int) -> int | None:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def _answer_calls(connection: Connection) -> None:
    """Answer calls until the other end of the socket is closed.

    The other side ends a worker that is late. Should it be gone itself, the alarm clock does: its default
    action needs neither Python nor its lock.
    """
    try:
        connection.send_bytes(pickle.dumps((None, None, False)))
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))
            signal.alarm(0)
    except (EOFError, OSError):
        return


def _answer(message: bytes) -> bytes:
    try:
        call: Call = pickle.loads(message)
        signal.alarm(math.ceil(call.seconds) + _GRACE_SECONDS)
        return pickle.dumps((call.function(*call.arguments), None, False))
    except Exception as error:
        from tuning.errors import last_line

        return pickle.dumps((None, last_line(error), _is_out_of_memory(error)))


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
