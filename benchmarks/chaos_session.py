"""A tuning session in which everything goes wrong.

A tracker and two device servers run on this machine. While a network is tuned on them, each server is killed
and started again, so is the tracker, and the tuner itself is killed with SIGKILL three times. Some candidates
hang, crash, use an instruction that does not exist or compute something wrong: a builder in the tuner plants
these faults, chosen by the candidate's code, before it has the candidate built. The functions that candidates
are compared with are left alone.

    python benchmarks/chaos_session.py [--trials N]

Prints one JSON object. `finished`: the tuner ended by itself with all trials made. `lost`: records that were
in the database when something was killed, and are not at the end. `measured_twice`: trials beyond one for
each record, by the logs of all sessions, and records that stand twice. `wrong_accepted`: functions whose best
record that is not banned computes something wrong.
"""

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import tvm
from tvm import tirx
from tvm.ir import IRModule
from tvm.s_tir.stmt import SBlock, SBlockRealize

import targets
import tuning
from pipeline import load_network
from relay_passes import inline_composites
from tuning.building.built import Builder, Built
from tuning.building.local import LocalBuilder
from tuning.devices.tracker import wait_for_device
from tuning.records import database as db
from tuning.records import kernels
from tuning.records.checking import ranked
from tuning.session_log import read_log

MODEL = Path(__file__).parents[1] / "examples" / "fashion_googlenet.onnx"
HOST, KEY = "127.0.0.1", "chaos"
LOG, OUTPUT = "session.jsonl", "output.txt"
SECONDS = 1800.0
START_SECONDS = 60.0
LOOK_SECONDS = 0.1
AWAY_SECONDS = 2.0
KINDS = 16
"""Of which the faults below take some; all other candidates are built as they are."""


class Fault(StrEnum):
    """What a candidate does instead of its work."""

    HANGS = "hangs"
    CRASHES = "crashes"
    ILLEGAL = "illegal instruction"
    WRONG = "computes something wrong"


FAULTS = {0: Fault.HANGS, 1: Fault.CRASHES, 2: Fault.ILLEGAL, 3: Fault.WRONG, 4: Fault.WRONG, 5: Fault.WRONG}
CALLS = {
    Fault.HANGS: ("sleep", 600),
    Fault.CRASHES: ("raise", int(signal.SIGSEGV)),
    Fault.ILLEGAL: ("raise", int(signal.SIGILL)),
}
SCHEDULED = ("T.vectorized", "T.unroll", "pragma_")
REARRANGES = "layout_rewrite_preproc"


class FaultyBuilder:
    """Plants faults, and leaves building to another builder."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    @property
    def slots(self) -> int:
        """How many are built at a time."""
        return self._builder.slots

    def submit(self, module: IRModule) -> "Future[Built]":
        """Build a candidate, with the fault that its code decides."""
        fault = fault_of(module)
        return self._builder.submit(module if fault is None else planted(module, fault))

    def close(self) -> None:
        """End the other builder."""
        self._builder.close()


def fault_of(module: IRModule) -> Fault | None:
    """Return the fault of a candidate; None for most of them, and for functions without a schedule."""
    lines = module.script().splitlines()
    text = "\n".join(line for line in lines if REARRANGES not in line)
    if not any(mark in text for mark in SCHEDULED):
        return None
    return FAULTS.get(hashlib.sha256(text.encode()).digest()[0] % KINDS)


def planted(module: IRModule, fault: Fault) -> IRModule:
    """Return a candidate with a fault: a call before its work, or a number written over its result."""
    function = module["main"]
    root = function.body.block
    if fault is Fault.WRONG:
        output = function.params[-1]
        first = [tirx.const(0, "int64")] * len(output.shape)
        body = [root.body, tirx.BufferStore(output, tirx.const(1e4, output.dtype), first)]
    else:
        name, argument = CALLS[fault]
        body = [tirx.Evaluate(tirx.call_extern("int32", name, argument)), root.body]
    whole = SBlock(
        root.iter_vars,
        root.reads,
        root.writes,
        root.name_hint,
        tirx.SeqStmt(body),
        root.init,
        root.alloc_buffers,
        root.match_buffers,
        root.annotations,
    )
    realized = SBlockRealize(function.body.iter_values, function.body.predicate, whole)
    return IRModule({"main": function.with_body(realized)})


@dataclass
class Chaos:
    """The processes of a session, what is done to them, and what was lost by it.

    `events` are what happens, in turn; each is due when the database holds a share of the trials.
    """

    folder: Path
    trials: int
    port: int
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    restarts: dict[str, float] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    happened: list[str] = field(default_factory=list)

    @property
    def commands(self) -> dict[str, list[str]]:
        """What each process runs."""
        ours = [str(Path(sys.executable).with_name("deeprebirth"))]
        address = f"{HOST}:{self.port}"
        serve = [*ours, "serve", "--tracker", address, "--key", KEY, "--threads", "1"]
        tuner = [sys.executable, __file__, "--tune", str(self.folder), "--port", str(self.port)]
        return {
            "tracker": [*ours, "tracker", "--port", str(self.port)],
            "first server": serve,
            "second server": serve,
            "tuner": [*tuner, "--trials", str(self.trials)],
        }

    def start(self, name: str) -> None:
        """Start a process."""
        with open(self.folder / OUTPUT, "ab") as output:
            self.processes[name] = subprocess.Popen(
                self.commands[name], stdout=output, stderr=output, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL; it is started again later, the tuner at once."""
        self.seen |= records_of(self.folder)
        self.happened.append(f"{name} killed at {len(self.seen)} records")
        os.kill(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()
        self.restarts[name] = time.monotonic() + (0 if name == "tuner" else AWAY_SECONDS)

    def restart(self) -> None:
        """Start again what has been away for long enough."""
        due = [name for name, at in self.restarts.items() if time.monotonic() >= at]
        for name in due:
            del self.restarts[name]
            self.start(name)

    def close(self) -> None:
        """End all processes and what they started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


EVENTS = (
    (0.1, "first server"),
    (0.2, "tuner"),
    (0.35, "tracker"),
    (0.5, "tuner"),
    (0.6, "second server"),
    (0.75, "tuner"),
)


def records_of(folder: Path) -> set[str]:
    """Return the lines of the database's records, without one that is being written."""
    return {line for file in folder.rglob(db.RECORDS) for line in file.read_text().split("\n")[:-1]}


def run(folder: Path, trials: int) -> dict[str, object]:
    """Let everything go wrong, and count what came of it."""
    chaos = Chaos(folder, trials, _free_port())
    events = list(EVENTS)
    deadline = time.monotonic() + SECONDS
    try:
        chaos.start("tracker")
        for name in ("first server", "second server", "tuner"):
            chaos.start(name)
        while chaos.processes["tuner"].poll() is None or "tuner" in chaos.restarts:
            if time.monotonic() > deadline:
                break
            if events and len(records_of(folder)) >= events[0][0] * trials:
                chaos.kill(events.pop(0)[1])
            chaos.restart()
            time.sleep(LOOK_SECONDS)
        finished = chaos.processes["tuner"].poll() == 0 and not events
    finally:
        chaos.close()
    if not finished:
        print((folder / OUTPUT).read_text(errors="replace"), file=sys.stderr)
    return _counted(chaos, finished)


def _counted(chaos: Chaos, finished: bool) -> dict[str, object]:
    host = targets.find("host").with_threads(1)
    log = read_log(chaos.folder / LOG)
    logged = [trial for session in log.sessions for trial in session.trials]
    lines = [line for file in chaos.folder.rglob(db.RECORDS) for line in file.read_text().splitlines()]
    with db.readable(chaos.folder / "records", host.target()) as (database, cleaning):
        workloads = {record.workload: None for record in database.get_all_tuning_records()}
        best = [next(iter(ranked(workload, database)), None) for workload in workloads]
    wrong = [each for each in best if each and fault_of(kernels.tuned(each)) is Fault.WRONG]
    failures: dict[str, int] = {}
    for trial in logged:
        if trial.cause is not None:
            failures[trial.cause] = failures.get(trial.cause, 0) + 1
    return {
        "finished": finished and len(lines) >= chaos.trials,
        "lost": len(chaos.seen - set(lines)),
        "measured_twice": max(0, len(logged) - len(set(lines))) + cleaning.duplicates,
        "wrong_accepted": len(wrong),
        "banned": cleaning.banned,
        "trials": len(lines),
        "failures": failures,
        "sessions": len(log.sessions),
        "happened": chaos.happened,
        "network": MODEL.name,
        "measured_on": host.measured_on(),
        "tvm": tvm.__version__,
    }


def tune(folder: Path, port: int, trials: int) -> None:
    """Be the tuner."""
    host = targets.find("host").with_threads(1)
    module = inline_composites(load_network(MODEL).module)
    session = tuning.RemoteSession(HOST, port, KEY, threads=1, shares_machine=False)
    with ExitStack() as stack:
        log = stack.enter_context(tuning.SessionLog(folder / LOG))
        builder = stack.enter_context(closing(FaultyBuilder(LocalBuilder(host))))
        wait_for_device(session.rpc_config, START_SECONDS)
        tuning.tune(
            module,
            host,
            session,
            folder / "records",
            tuning.Budget(trials=trials),
            name=MODEL.stem,
            builder=builder,
            log=log.write,
        )


def main() -> None:
    """Run the session and print, or be its tuner."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=240, help="trials of the session (default: 240)")
    parser.add_argument("--tune", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tune is not None:
        tune(options.tune, options.port, options.trials)
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        print(json.dumps(run(Path(folder), options.trials), indent=2))


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


if __name__ == "__main__":
    main()
