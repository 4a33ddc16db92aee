"""The process of one session with a device: it runs whatever its client sends, and may crash of it.

It is forked from the server, so that TVM is there at once, and leads a process group of its own, so that
everything it started ends with it.
"""

import asyncio
import ctypes
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import tvm

from targets import DeviceTraits
from tuning.devices.facts import DeviceFacts

LAST_END = "deeprebirth.last_end"
DEVICE = "deeprebirth.device"
TRAITS = "deeprebirth.traits"
_PR_SET_PDEATHSIG = 1
_C = ctypes.CDLL(None)


async def run_session(
    connection: socket.socket, folder: Path, last_end: str, seconds: float | None
) -> tuple[int, bool]:
    """Serve a connection in a process of its own until its client is done, or it crashes, or time is over.

    Parameters
    ----------
    connection : socket.socket
        Greeted, and set to blocking.
    folder : Path
        Where uploaded files go.
    last_end : str
        What the session is told of the one before it.
    seconds : float or None
        How long it may take; None for ever.

    Returns
    -------
    status : int
        How the process ended, as ``os.waitpid`` tells it.
    late : bool
        Whether its time was over.
    """
    changed = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, changed.set)
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_a_session(server, connection, folder, last_end)
    status = 0
    try:
        async with asyncio.timeout(seconds):
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                await changed.wait()
                changed.clear()
        late = False
    except TimeoutError:
        late = True
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    return status, late


def _be_a_session(server: int, connection: socket.socket, folder: Path, last_end: str) -> None:
    """Serve the connection and end the process."""
    code = 1
    try:
        _leave_the_server(server)
        os.chdir(folder)
        tempfile.tempdir = str(folder)
        _register(
            {
                "tvm.rpc.server.workpath": lambda name: str(folder / name),
                "tvm.rpc.server.load_module": lambda name: tvm.runtime.load_module(str(folder / name)),
                LAST_END: lambda: last_end,
                DEVICE: lambda: DeviceFacts.of_this_machine().to_json(),
                TRAITS: lambda: DeviceTraits.of_this_machine().to_json(),
            }
        )
        tvm.get_global_func("rpc.ServerLoop")(connection.detach())
        code = 0
    finally:
        os._exit(code)


def _leave_the_server(server: int) -> None:
    """Become a process of its own that ends with the server, and is what the system kills for memory."""
    _C.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _register(functions: dict[str, Callable[..., object]]) -> None:
    for name, function in functions.items():
        tvm.register_global_func(name, function, override=True)
