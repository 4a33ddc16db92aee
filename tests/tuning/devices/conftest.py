"""A tracker in this process, and code that ends the process it runs in."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
import tvm
from tvm.script import tirx as T

import targets
from tuning import RpcConfig
from tuning.devices.listening import LOOPBACK, listen
from tuning.devices.tracker_server import TrackerServer


@T.prim_func(s_tir=True)
def raising(number: T.int32):
    T.func_attr({"global_symbol": "raising"})
    T.evaluate(T.call_extern("int32", "raise", number))


@T.prim_func(s_tir=True)
def leaving(code: T.int32):
    T.func_attr({"global_symbol": "leaving"})
    T.evaluate(T.call_extern("int32", "_exit", code))


@T.prim_func(s_tir=True)
def sleeping(seconds: T.int32):
    T.func_attr({"global_symbol": "sleeping"})
    T.evaluate(T.call_extern("int32", "sleep", seconds))


@T.prim_func(s_tir=True)
def starting(_seconds: T.int32):
    T.func_attr({"global_symbol": "starting"})
    T.evaluate(T.call_extern("int32", "system", "sleep 600 &"))


@pytest.fixture(scope="package")
def deadly(tmp_path_factory: pytest.TempPathFactory, host: targets.TargetInfo) -> Path:
    """A library whose functions crash, end, sleep, and start a process."""
    path = tmp_path_factory.mktemp("deadly") / "deadly.so"
    functions = {each.attrs["global_symbol"]: each for each in (raising, leaving, sleeping, starting)}
    tvm.tirx.build(tvm.IRModule(functions), target=host.target()).export_library(str(path))
    return path


@contextmanager
def _in_background(server: Coroutine[None, None, None]) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    serving = loop.create_task(server)

    def run() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(30)


@pytest.fixture
def in_background() -> Callable[[Coroutine[None, None, None]], AbstractContextManager[None]]:
    """Run a server in this process as long as a ``with`` block."""
    return _in_background


@pytest.fixture
def own_tracker() -> Iterator[RpcConfig]:
    """A tracker without devices."""
    listener = listen(LOOPBACK)
    with _in_background(TrackerServer(listener).run()):
        yield RpcConfig(LOOPBACK, listener.getsockname()[1], "any")


@pytest.fixture
def free_port() -> int:
    with listen(LOOPBACK) as listener:
        return listener.getsockname()[1]
