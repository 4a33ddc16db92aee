"""Make the starting records of this machine's family of processors: tune networks of the zoo, keep the best.

    python benchmarks/starting_records.py [--networks NAME ...] [--trials N] [--records DIR]
    python benchmarks/starting_records.py --of DIR ...

Each network is tuned as it is and with all its merges, on this machine, which should have nothing else to do.
The best schedule of each function that was compared and found right goes into the family's file in
`tuning/starting/`, in place of what stands there. With `--of`, nothing is tuned: the records are those of
tuning databases of this machine, such as `peers.py` keeps. Prints one JSON object: the file, its size and
records.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tvm
from networks import ZOO, ZooNetwork

import pipeline
import targets
import tuning
from pipeline.merging import MergeRequest, merge_network
from relay_passes import inline_composites
from tuning import starting
from tuning.records import database as db
from tuning.records import verdicts
from tuning.searching.transfer import Known, best_of

MERGES = MergeRequest(retraining=True)


def main() -> None:
    """Tune, write and print."""
    importable = [network.name for network in ZOO if network.status == "imported"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=importable, choices=importable, metavar="NAME")
    parser.add_argument("--trials", type=int, default=640, help="for each form of a network (default: 640)")
    parser.add_argument("--records", type=Path, help="a tuning database to keep, so that a run goes on")
    parser.add_argument("--of", nargs="+", type=Path, metavar="DIR", help="tuning databases: tune nothing")
    options = parser.parse_args()
    if options.of:
        print(json.dumps(write(targets.find("host"), options.of), indent=2))
        return
    chosen = [network for network in ZOO if network.name in options.networks and not network.missing]
    host = targets.find("host")
    with tempfile.TemporaryDirectory(prefix="deeprebirth-starting-") as name:
        records = options.records or Path(name) / "records"
        with tuning.LocalSession(host) as session:
            for module in _modules(chosen, Path(name)):
                tuning.tune(module, host, session, records, tuning.Budget(trials=options.trials), say=_say)
        print(json.dumps(write(host, [records]), indent=2))


def write(host: targets.TargetInfo, databases: list[Path], folder: Path = starting.FOLDER) -> dict[str, Any]:
    """Make the right ones of databases' best records the file of the target's family; say what it holds."""
    target = host.target()
    fastest = _fastest(databases, target)
    if not fastest:
        print(f"no right records in {', '.join(map(str, databases))}: tune first", file=sys.stderr)
        raise SystemExit(2)
    path = starting.write(fastest, target, host.measured_on(), folder)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "records": len(starting.read(target, folder)),
        "measured_on": host.measured_on(),
    }


def _fastest(databases: list[Path], target: tvm.target.Target) -> list[Known]:
    """Return the fastest right record of each function."""
    found: dict[str, Known] = {}
    for records in databases:
        judged = verdicts.read(db.directory(records, target))
        with db.readable(records, target) as (database, _):
            for known in best_of(database):
                function = verdicts.hash_of(known.record.workload)
                faster = function not in found or known.seconds < found[function].seconds
                if faster and _is_right(known, judged):
                    found[function] = known
    return list(found.values())


def _is_right(known: Known, judged: verdicts.Verdicts) -> bool:
    verdict = judged.verdict_of(known.record.workload, known.record.trace)
    return verdict is not None and verdict.judgement is verdicts.Judgement.RIGHT


def _modules(networks: list[ZooNetwork], folder: Path) -> Iterator[tvm.IRModule]:
    """Yield each network as it is, and with its merges."""
    for network in networks:
        _say(network.name)
        loaded = pipeline.load_network(network.write(folder), input_shapes=network.input_shapes)
        yield inline_composites(loaded.module)
        yield inline_composites(merge_network(loaded, MERGES).module)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
