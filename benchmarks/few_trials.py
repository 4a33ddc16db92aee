"""What a few trials for each task give of what many give, on GoogLeNet's heaviest convolutions.

Each convolution, with bias and ReLU, is a network of its own: one task, or two where it can be computed
directly and by Winograd's algorithm. It is tuned with a few trials for each task and compiled, tuned on to
many and compiled again; then both run in processes of their own, in turns. To begin with there are no records
but those that come with the package.

    python benchmarks/few_trials.py [--convolutions N] [--few N] [--many N] [--threads N]

Prints one JSON object: `share`, how fast the first one is as a part of the other, as the geometric mean over
the convolutions, and `smallest_share`; a row for each convolution with billions of operations a second of
both, a multiply-add counted as two, and the seconds of tuning until each; and what it was measured on.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from engines.process import Peer
from kernels import models
from single_convolutions import Convolution, heaviest

import pipeline
import targets
import tuning
from pipeline.network import Network

TURNS, RUNS = 9, 20

Row = dict[str, Any]


def main() -> None:
    """Tune, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convolutions", type=int, default=4, help="of each network (default: 4)")
    parser.add_argument("--few", type=int, default=8, help="trials for each task (default: 8)")
    parser.add_argument("--many", type=int, default=200, help="trials for each task (default: 200)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    host = targets.find("host").with_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-few-trials-") as name:
        rows = [
            {"network": network, **_row(convolution, options.few, options.many, host, Path(name))}
            for network, model in models(None, Path(name)).items()
            for convolution, _ in heaviest(model, options.convolutions)
        ]
    given = {"few": options.few, "many": options.many, "measured_on": host.measured_on()}
    print(json.dumps(summary(rows) | given, indent=2))


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the figures of all rows, of which there is at least one."""
    shares = [row["gflops_few"] / row["gflops_many"] for row in rows]
    return {
        "share": round(geometric_mean(shares), 3),
        "smallest_share": round(min(shares), 3),
        "rows": rows,
    }


def _row(convolution: Convolution, few: int, many: int, host: targets.TargetInfo, folder: Path) -> Row:
    network = pipeline.load_network(convolution.write(folder / "convolution.onnx"))
    with tempfile.TemporaryDirectory(dir=folder) as own:
        places = [Path(own) / name for name in ("few", "many")]
        seconds = _tuned(network, (few, many), host, places)
        with ExitStack() as stack:
            inputs = list(network.golden.inputs.values())
            peers = [
                stack.enter_context(Peer("deeprebirth", place, host.threads, inputs)) for place in places
            ]
            turns = [[median(peer.run(RUNS)) for peer in peers] for _ in range(TURNS)]
    gflop = 2 * convolution.multiply_adds / 1e9
    rates = [round(gflop / (median(times) / 1e3), 1) for times in zip(*turns, strict=True)]
    row = {
        "convolution": str(convolution),
        "gflops_few": rates[0],
        "gflops_many": rates[1],
        "seconds_few": seconds[0],
        "seconds_many": seconds[1],
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _tuned(
    network: Network, budgets: tuple[int, ...], host: targets.TargetInfo, places: list[Path]
) -> list[float]:
    """Tune with so many trials for each task, one budget after the other; return the seconds until each."""
    records, tasks, seconds = places[0].parent / "records", 1, [0.0]
    with tuning.LocalSession(host) as session:
        for each, place in zip(budgets, places, strict=True):
            tasks, spent = _tune(network, each, tasks, host, session, records)
            seconds.append(round(seconds[-1] + spent, 1))
            place.mkdir()
            built = tuning.compile_module(network.module, host, records)
            built.export(place / "library.so", place / "weights.params")
    return seconds[1:]


def _tune(
    network: Network, trials: int, tasks: int, host: targets.TargetInfo, session: Any, records: Path
) -> tuple[int, float]:
    """Tune with so many trials for each task; return how many tasks there are, which the first run tells."""
    result = tuning.tune(network.module, host, session, records, tuning.Budget(trials=trials * tasks))
    if len(result.tasks) == tasks:
        return tasks, result.seconds
    again = _tune(network, trials, len(result.tasks), host, session, records)
    return again[0], result.seconds + again[1]


if __name__ == "__main__":
    main()
