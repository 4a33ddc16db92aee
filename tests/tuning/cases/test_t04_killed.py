"""T4: a tuner that is killed goes on where it was, and measures nothing twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import targets
import tuning
from tuning.records import database as db
from tuning.result import Budget

NETWORK = Path(__file__).parents[1] / "conftest.py"
TRIALS = 10
TUNER = """
import json, runpy, sys
from pathlib import Path
import targets, tuning
from tuning.progress import Trial
network, folder, port, trials = sys.argv[1:]
session = tuning.RemoteSession("127.0.0.1", int(port), "local", threads=1)
net = runpy.run_path(network)["make_net"]()
log = lambda line: isinstance(line, Trial) and print(json.dumps(line.at), flush=True)
host, budget = targets.find("host"), tuning.Budget(trials=int(trials))
tuning.tune(net.module, host, session, Path(folder), budget, log=log)
"""


def killed(folder: Path, session: tuning.LocalSession, after: int) -> None:
    """Let a tuner make so many trials, then kill it."""
    command = [sys.executable, "-c", TUNER, NETWORK, folder, str(session.rpc_config.port), str(TRIALS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tuner:
        for _ in range(after):
            json.loads(tuner.stdout.readline())
        os.kill(tuner.pid, signal.SIGKILL)


def records(folder: Path) -> list[str]:
    """The lines of the records; one that was being written when the tuner ended is none."""
    return [line for file in folder.rglob(db.RECORDS) for line in file.read_text().split("\n")[:-1]]


def test_what_was_measured_is_kept_and_not_measured_again(
    tmp_path: Path, net, host: targets.TargetInfo, session: tuning.LocalSession
) -> None:
    killed(tmp_path, session, 2)
    first = records(tmp_path)
    assert len(first) >= 2
    killed(tmp_path, session, 3)
    second = records(tmp_path)
    assert len(second) >= len(first) + 3
    result = tuning.tune(net.module, host, session, tmp_path, Budget(trials=TRIALS))
    assert result.trials_reused == len(second)
    assert result.trials_reused + result.trials_measured == TRIALS
    last = records(tmp_path)
    assert set(first) <= set(second) <= set(last)
    with db.readable(tmp_path, host.target()) as (database, cleaning):
        assert cleaning == db.Cleaning()
        schedules = {
            (str(record.workload.mod), db.trace_key(record.trace))
            for record in database.get_all_tuning_records()
        }
    assert len(schedules) == len(last) == TRIALS
