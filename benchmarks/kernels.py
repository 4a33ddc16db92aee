"""Our convolutions beside onnxruntime's, on GoogLeNet's most expensive ones, original and merged.

Each convolution is a network of its own, with bias and ReLU. Ours is tuned with so many trials; then both run
in processes of their own, in turns.

    python benchmarks/kernels.py [--convolutions N] [--trials N] [--threads N] [--model MODEL]

Prints one JSON object: `geomean_vs_onnxruntime`, how many times as fast ours are, as the geometric mean over
all rows; a row for each convolution with billions of operations a second, a multiply-add counted as two, the
inner loop of ours, and how many calls of its functions change a layout; the machine's measured peak; how long
it takes to start the threads and wait for them, in microseconds; and what it was measured on.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from codegen.startup import thread_startup
from codegen.x86 import inner_loop
from engines.process import Peer
from networks import ZOO
from single_convolutions import Convolution, heaviest

import pipeline
import targets
import tuning
from pipeline.merging import MergeRequest
from tuning.functions import NetworkFunction
from tuning.lowering.packed.layout import PACK, UNPACK
from tuning.measuring.peak import peak_gflops

NETWORK = "light_inception_v1"
TURNS, RUNS = 9, 20
_CHANGES_LAYOUT = re.compile(rf"(?:^|_)(?:{PACK}|{UNPACK})\d*(?:_|$)")

Row = dict[str, Any]


def main() -> None:
    """Tune, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--convolutions", type=int, default=20, help="of each network, the most expensive first (default: 20)"
    )
    parser.add_argument("--trials", type=int, default=32, help="for each convolution (default: 32)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--model", type=Path, help="another network than GoogLeNet, an ONNX file")
    options = parser.parse_args()
    host = targets.find("host").with_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="deeprebirth-kernels-") as name:
        folder = Path(name)
        with tuning.LocalSession(host) as session:
            peak, startup = peak_gflops(session, host), thread_startup(session, host)
        rows = [
            {
                "network": network,
                **_row(convolution, calls, host, options.trials, folder),
                "peak_gflops": peak,
            }
            for network, model in models(options.model, folder).items()
            for convolution, calls in heaviest(model, options.convolutions)
        ]
    if not rows:
        parser.error("there are no convolutions to measure")
    measured = {
        "thread_startup_us": startup,
        "trials": options.trials,
        "measured_on": host.measured_on(),
    }
    print(json.dumps(summary(rows) | measured, indent=2))


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the figures of all rows, of which there is at least one."""
    networks = dict.fromkeys(row["network"] for row in rows)
    return {
        "geomean_vs_onnxruntime": _geomean(rows),
        "by_network": {
            network: _geomean([row for row in rows if row["network"] == network]) for network in networks
        },
        "rows": rows,
    }


def layout_transforms(functions: Iterable[NetworkFunction]) -> int:
    """Return how many calls of a compiled network's functions pack a tensor or unpack one."""
    return sum(each.calls for each in functions if _CHANGES_LAYOUT.search(each.name))


def _geomean(rows: list[Row]) -> float:
    return round(geometric_mean(row["ours_gflops"] / row["onnxruntime_gflops"] for row in rows), 3)


def models(given: Path | None, folder: Path) -> dict[str, Path]:
    """Return GoogLeNet or another network as it is, and with all its merges."""
    original = given or next(each for each in ZOO if each.name == NETWORK).write(folder)
    merged = folder / "merged.onnx"
    pipeline.export(original, onnx_file=merged, request=MergeRequest(retraining=True))
    return {"original": original, "merged": merged}


def _row(convolution: Convolution, calls: int, host: targets.TargetInfo, trials: int, folder: Path) -> Row:
    model, compiled = convolution.write(folder / "convolution.onnx"), folder / "compiled"
    network = pipeline.load_network(model)
    shutil.rmtree(compiled, ignore_errors=True)
    compiled.mkdir()
    with tuning.LocalSession(host) as session:
        tuning.tune(network.module, host, session, compiled / "records", tuning.Budget(trials=trials))
    built = tuning.compile_module(network.module, host, compiled / "records")
    built.export(compiled / "library.so", compiled / "weights.params")
    inputs = list(network.golden.inputs.values())
    with ExitStack() as stack:
        ours = stack.enter_context(Peer("deeprebirth", compiled, host.threads, inputs))
        theirs = stack.enter_context(Peer("onnxruntime", model, host.threads, inputs))
        difference = float(abs(ours.outputs[0] - theirs.outputs[0]).max())
        turns = [(ours.run(RUNS), theirs.run(RUNS)) for _ in range(TURNS)]
    gflop = 2 * convolution.multiply_adds / 1e9
    rates = [gflop / (median(map(median, times)) / 1e3) for times in zip(*turns, strict=True)]
    loop = inner_loop(compiled / "library.so") if host.cpu == targets.info.OWN_CPU else None
    row = {
        "convolution": str(convolution),
        "calls": calls,
        "ours_gflops": round(rates[0], 1),
        "onnxruntime_gflops": round(rates[1], 1),
        "max_diff": difference,
        "inner_loop": None if loop is None else asdict(loop),
        "layout_transforms": layout_transforms(built.functions),
    }
    print(json.dumps(row), file=sys.stderr)
    return row


if __name__ == "__main__":
    main()
