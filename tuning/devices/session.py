"""Where code is measured: a device behind a tracker, or one on this machine that we start ourselves."""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from targets import TargetInfo
from tuning.devices.tracker import RpcConfig, require_device, wait_for_device
from tuning.errors import TuningError

_HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


class Session(Protocol):
    """A device that can be asked for through a tracker, and the number of threads its code runs on."""

    rpc_config: RpcConfig
    threads: int


class RemoteSession:
    """A device that serves a key of a tracker somewhere.

    Parameters
    ----------
    host, port, key
        The tracker's address and the device's key.
    threads : int
        Cores that the device's server was told to use.

    Raises
    ------
    TuningError
        On entering, if the tracker does not answer or no device serves the key; names the keys there are.
    """

    def __init__(self, host: str, port: int, key: str, threads: int) -> None:
        self.rpc_config = RpcConfig(host, port, key)
        self.threads = threads

    def __enter__(self) -> Self:
        require_device(self.rpc_config)
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class LocalSession:
    """A tracker and an RPC server on this machine, which live as long as the ``with`` block.

    Both are child processes in sessions of their own: the terminal's Ctrl-C does not reach them, and they
    end, with everything they started, when the block is left or this process is gone in whatever way.

    Parameters
    ----------
    target : TargetInfo
        What the server runs; its number of threads is the default.
    threads : int, optional
        Cores that measured code uses.
    key : str
        The key the server registers.

    Raises
    ------
    TuningError
        On entering, if they do not start in time.
    """

    def __init__(self, target: TargetInfo, threads: int | None = None, key: str = "local") -> None:
        self.threads = threads or target.threads
        self._key = key
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def rpc_config(self) -> RpcConfig:
        """The tracker's address and the server's key."""
        return self._config

    def __enter__(self) -> Self:
        try:
            port = self._start("tracker")
            self._config = RpcConfig(_HOST, port, self._key)
            self._start("server", str(port), self._key)
            wait_for_device(self._config, _START_SECONDS)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and the tracker and everything they started."""
        for process in reversed(self._processes):
            _end(process)
        self._processes = []

    def _start(self, role: str, *arguments: str) -> int:
        """Start one of the two and return the port it listens on."""
        environment = os.environ | {
            "TVM_NUM_THREADS": str(self.threads),
            "TVM_BIND_THREADS": "0",
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tuning.devices.serve", role, *arguments],
            env=environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        line = _read_line(process, _START_SECONDS)
        try:
            return int(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError):
            raise TuningError(f"the local RPC {role} did not start within {_START_SECONDS:g} s") from None


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let go of the child's watch pipe, and end its process group if it does not do so itself."""
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()
