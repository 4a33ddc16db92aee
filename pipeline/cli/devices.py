"""`deeprebirth tracker`, `deeprebirth serve` and `deeprebirth devices`.

The first two serve until Ctrl-C or SIGTERM, which is how they are meant to end: then with exit code 0, and
with everything they started.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.options import JsonOption
from pipeline.cli.tracker_address import LAST_PORT, TrackerOption, tracker_address
from pipeline.errors import UserError
from pipeline.report.tables import printable

if TYPE_CHECKING:
    import socket

    from tuning.devices.tracker import Device

TRACKER_PORT = 9190
STATES = {True: "free", False: "in use", None: "not told"}

HostOption = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")]


def tracker(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=LAST_PORT, help="The port to listen on.")] = TRACKER_PORT,
) -> None:
    """Run a tracker, which hands out devices to those who tune and measure; Ctrl-C ends it."""
    with _without_torch():
        from tuning.devices.lifetime import run_until_told
        from tuning.devices.tracker_server import TrackerServer

    listener = _listen(host, port)
    where = f"{'HOST' if _is_wildcard(host) else host}:{port}"
    _say(f"tracker on {host}:{port}; on each device: `deeprebirth serve --tracker {where} --key KEY`")
    _warn_if_open(host, "whoever can reach it is given the devices")
    run_until_told(TrackerServer(listener).run())
    _say("ended")


def serve(
    tracker: TrackerOption,
    key: Annotated[
        str, typer.Option(help="The key that devices of this kind are asked for by.", show_default=False)
    ],
    host: HostOption = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=LAST_PORT, help="The port to listen on; by default a free one.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores that measured code uses; by default all.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The OpenCL device to run GPU code on: its number in `deeprebirth doctor`, or part of its "
            "name or its platform's; by default the first.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Let this machine be measured on: register it at a tracker under a key; Ctrl-C ends it.

    Sessions are served one after the other, and each may crash. A tracker that is gone is looked for until it
    is back.
    """
    from targets.machine import core_count

    where = tracker_address(tracker)
    if not key or key.split() != [key]:
        raise UserError(f"--key {key!r}: write it without spaces")
    threads = threads or core_count()
    os.environ |= {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}
    if device is not None:
        _choose_opencl(device)
    with _without_torch():
        from tuning.devices.lifetime import run_until_told
        from tuning.devices.listening import is_loopback
        from tuning.devices.server import DeviceServer

    listener = _listen(host, port)
    address, chosen = listener.getsockname()[:2]
    _say(f"serving {key} on {host}:{chosen} with {threads} threads")
    _warn_if_open(host, "an RPC server runs any code that it is sent")
    if is_loopback(host) and not is_loopback(where[0]):
        _warn("other machines cannot reach a loopback address: give --host, or forward the port")
    server = DeviceServer(listener, where, key, None if _is_wildcard(host) else address, _say)
    run_until_told(server.run())
    _say("ended")


def _choose_opencl(wanted: str) -> None:
    """Let this process's sessions use the OpenCL device that is wanted; a process of its own looks for it."""
    from targets import TargetError
    from targets.runtime.opencl import DEVICE_VARIABLE, listing

    try:
        chosen = listing(wanted).chosen
    except TargetError as error:
        raise UserError(f"--device {wanted}: {error}") from None
    os.environ[DEVICE_VARIABLE] = wanted
    _say(f"OpenCL device: {chosen.name} ({chosen.platform}, {chosen.version})")


def devices(tracker: TrackerOption, as_json: JsonOption = False) -> None:
    """Print the devices that are registered at a tracker, and which of them are free."""
    with _without_torch():
        from tuning.devices.tracker import RpcConfig
        from tuning.devices.tracker import devices as registered

    found = registered(RpcConfig(*tracker_address(tracker), key=""))
    if as_json:
        rows = [{"address": each.address, "key": each.key, "free": each.free} for each in found]
        print(json.dumps({"tracker": tracker, "devices": rows}))
    elif found:
        Console().print(_table(found))
    else:
        line = f"No device is registered; start one with `deeprebirth serve --tracker {tracker} --key KEY`."
        Console().print(Text(printable(line)), soft_wrap=True)


def _table(found: "tuple[Device, ...]") -> Table:
    table = Table("address", "key", "state", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in found:
        cells = (each.address, each.key, STATES[each.free])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _listen(host: str, port: int | None) -> "socket.socket":
    from tuning import TuningError
    from tuning.devices.listening import listen

    try:
        return listen(host, port)
    except TuningError as error:
        raise UserError(f"{error} (--host, --port)") from None


def _is_wildcard(host: str) -> bool:
    from tuning.devices.listening import is_wildcard

    return is_wildcard(host)


def _warn_if_open(host: str, danger: str) -> None:
    from tuning.devices.listening import is_loopback

    if not is_loopback(host):
        _warn(f"listening on {host}, not on loopback: {danger}, so only where you trust every machine")


def _warn(line: str) -> None:
    Console(stderr=True).print(Text(f"warning: {printable(line)}", style="yellow"), soft_wrap=True)


def _say(line: str) -> None:
    now = f"{datetime.now():%H:%M:%S}"
    Console(stderr=True).print(Text.assemble((now, "dim"), " ", printable(line)), soft_wrap=True)


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let TVM start without torch, which it imports if it is there: half the memory, a third of the time."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None
    try:
        yield
    finally:
        del sys.modules["torch"]
