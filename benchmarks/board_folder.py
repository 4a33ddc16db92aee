"""How large the folder for a board is, how fast its server starts, and what memory a session takes.

The server runs under qemu with the instructions of a Cortex-A72, so that its memory holds the emulator's too,
and its time says only that it is short. The session has GoogLeNet loaded, without its weights.

    python benchmarks/board_folder.py

Prints one JSON object: `folder_bytes`, `start_seconds`, `server_rss_mb`, `session_rss_mb` (VmRSS),
`together_mb` (pages that both hold counted once: PSS), `library_bytes`, `emulated`.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from networks import ZOO
from tvm import relax

import targets
import tuning
from pipeline.importer import load_network
from targets.runtime import pack
from tuning.devices import tracker

BOARD, KEY = "raspberry-pi-4", "board"
NETWORK = "light_inception_v1"
QEMU = ("qemu-aarch64", "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu")
SECONDS = 120.0


def main() -> None:
    """Measure and print."""
    board = targets.find(BOARD)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-board-") as scratch:
        folder = Path(scratch) / "board"
        folder.mkdir()
        packed = pack(board, folder, KEY)
        network = next(each for each in ZOO if each.name == NETWORK)
        module = load_network(network.write(Path(scratch))).module
        with tuning.LocalSession(targets.find("host")) as local:
            compiled = tuning.compile_module(module, board, None)
            measured = _measured(folder, local.rpc_config, compiled.library)
    print(json.dumps({"folder_bytes": packed.bytes, **measured, "emulated": True}, indent=2))


def _measured(folder: Path, at: tuning.RpcConfig, library: Path) -> dict[str, float]:
    """Start the server, load the library in a session, and look at the processes from outside."""
    config = tuning.RpcConfig(at.host, at.port, KEY)
    program = str(folder / "bin/deeprebirth-server")
    command = [*QEMU, program, "--tracker", f"{at.host}:{at.port}", "--key", KEY]
    environment = os.environ | {"TMPDIR": str(folder.parent)}
    began = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as server:
        try:
            tracker.wait_for_device(config, SECONDS)
            start_seconds = time.monotonic() - began
            lease = tracker.request(config, SECONDS, SECONDS)
            lease.remote.upload(str(library))
            machine = relax.VirtualMachine(lease.remote.load_module(library.name), lease.remote.cpu())
            process = psutil.Process(server.pid)
            (session,) = process.children()
            measured = {
                "start_seconds": round(start_seconds, 2),
                "server_rss_mb": _megabytes(process),
                "session_rss_mb": _megabytes(session),
                "together_mb": round(
                    sum(each.memory_full_info().pss for each in (process, session)) / 1e6, 1
                ),
                "library_bytes": library.stat().st_size,
            }
            del machine
            return measured
        finally:
            server.terminate()


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 1e6, 1)


if __name__ == "__main__":
    main()
