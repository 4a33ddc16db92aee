"""Our tuning session against TVM's `tune_relax` with RPCRunner, on the same functions and the same device.

The network is GoogLeNet's stem at full size, lowered to packed tensors as ours lowers it, its convolutions
direct ones. In each turn TVM's loop makes a number of trials, in rounds of 8; ours makes as many, and then
goes on until it has had as many seconds as TVM's took. Both have an empty database, measure on one RPC server
on this machine and use all its cores; ours begins with plain schedules, and with the starting records that
come with it. TVM's builder gets four times its usual time-out, as its builds would otherwise fail on a busy
machine. At the end of a turn the libraries of both are timed alternately; a function for which TVM's loop
found nothing has the schedule with which ours would begin. A turn takes about a quarter of an hour.

    python benchmarks/tuning_session.py [--turns N] [--trials N]

Prints one JSON object, medians over the turns: `seconds_ratio`, TVM's seconds for the same number of trials
over ours; `latency_ratio`, the latency of TVM's library over that of ours after the same seconds;
`latency_ratio_same_trials`, the same after the same number of trials; `shares`, the parts of our time in
which each stage had something to do; for each turn how many functions there are, and how many of these have a
schedule of TVM's loop.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import tvm
from networks import seeded_network
from tvm.ir import IRModule
from tvm.relax.frontend.onnx import from_onnx
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.builder import LocalBuilder
from tvm.s_tir.meta_schedule.runner import EvaluatorConfig, RPCConfig, RPCRunner

import targets
import tuning
from tuning.lowering.choice import forms
from tuning.prepare import prepare

NETWORK = "inception_v1"
FIRST, LAST = "data_0", "r9"
ROUND = 8
BUILD_SECONDS = 120.0
ROUNDS = 30


@dataclass(frozen=True)
class Turn:
    """What both loops needed and reached in one turn."""

    stock_seconds: float
    our_seconds: float
    stock_ms: float
    our_ms_same_trials: float
    our_ms_same_seconds: float
    our_trials_same_seconds: int
    functions: int
    stock_records_applied: int
    shares: dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1, help="turns of both loops (default: 1)")
    parser.add_argument("--trials", type=int, default=96, help="trials of a turn (default: 96)")
    options = parser.parse_args()
    host = targets.find("host")
    module = from_onnx(_beginning())
    with (
        _standard_output_as_error(),
        tempfile.TemporaryDirectory(prefix="tuning-session-") as folder,
        tuning.LocalSession(host) as session,
    ):
        turns = [
            _turn(module, host, session, Path(folder) / str(number), options.trials, number)
            for number in range(options.turns)
        ]
    print(json.dumps(_summary(host, turns, options.trials), indent=2))


@contextmanager
def _standard_output_as_error() -> Iterator[None]:
    """TVM's loop logs to standard output."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _beginning() -> onnx.ModelProto:
    network = onnx.shape_inference.infer_shapes(seeded_network(NETWORK))
    return onnx.utils.Extractor(network).extract_model([FIRST], [LAST])


def _turn(
    module: IRModule,
    host: targets.TargetInfo,
    session: tuning.Session,
    folder: Path,
    trials: int,
    number: int,
) -> Turn:
    ours, stock = folder / "ours", folder / "stock"
    stock.mkdir(parents=True)
    stock_seconds = _tune_stock(module, host, session, stock, trials, number)
    first = _tune_ours(module, host, session, ours, tuning.Budget(trials=trials), number)
    same_trials = tuning.compile_module(module, host, ours, exact_math=True)
    rest = max(1.0, stock_seconds - first.seconds)
    second = _tune_ours(module, host, session, ours, tuning.Budget(seconds=rest), number)
    compiled = {
        "stock": _compile_stock(module, host, stock, folder / "joined"),
        "same_trials": same_trials,
        "same_seconds": tuning.compile_module(module, host, ours, exact_math=True),
    }
    ms_of = _times(session, module, compiled)
    return Turn(
        stock_seconds=stock_seconds,
        our_seconds=first.seconds,
        stock_ms=ms_of["stock"],
        our_ms_same_trials=ms_of["same_trials"],
        our_ms_same_seconds=ms_of["same_seconds"],
        our_trials_same_seconds=first.trials_measured + second.trials_measured,
        functions=compiled["stock"].functions_total,
        stock_records_applied=compiled["stock"].records_applied,
        shares={stage: seconds / first.seconds for stage, seconds in first.stages.items()},
    )


def _tune_ours(
    module: IRModule,
    host: targets.TargetInfo,
    session: tuning.Session,
    folder: Path,
    budget: tuning.Budget,
    seed: int,
) -> tuning.TuningResult:
    return tuning.tune(module, host, session, folder, budget, seed=seed, exact_math=True)


def _tune_stock(
    module: IRModule,
    host: targets.TargetInfo,
    session: tuning.Session,
    folder: Path,
    trials: int,
    seed: int,
) -> float:
    """Let TVM's loop make so many trials; return its seconds."""
    config = session.rpc_config
    target = host.target()
    prepared = prepare(forms(module, target)[0].module, target)
    started = time.perf_counter()
    ms.relax_integration.tune_relax(
        prepared,
        {},
        target,
        str(folder),
        max_trials_global=trials,
        num_trials_per_iter=ROUND,
        builder=LocalBuilder(max_workers=host.threads, timeout_sec=BUILD_SECONDS),
        runner=RPCRunner(
            RPCConfig(config.host, config.port, config.key, session_timeout_sec=30),
            EvaluatorConfig(number=3, repeat=1, min_repeat_ms=100),
            max_workers=1,
        ),
        seed=seed + 1,
        module_equality="ignore-tensor",
    )
    return time.perf_counter() - started


def _compile_stock(module: IRModule, host: targets.TargetInfo, folder: Path, joined: Path) -> tuning.Compiled:
    """Compile with the records of TVM's loop, by the way that ours are used.

    Raises
    ------
    tuning.TuningError
        If none of them is of a function that is compiled.
    """
    tuning.join(joined, [folder], host.target())
    compiled = tuning.compile_module(module, host, joined, exact_math=True)
    if not compiled.records_applied:
        raise tuning.TuningError("no record of TVM's loop is of a function that is compiled")
    return compiled


def _times(
    session: tuning.Session, module: IRModule, compiled: dict[str, tuning.Compiled]
) -> dict[str, float]:
    """Return the median milliseconds of each library, all timed alternately."""
    shape = [int(size) for size in module["main"].params[0].ty.shape]
    image = np.random.default_rng(0).standard_normal(shape).astype("float32")
    libraries = {name: tuning.Library(each.library, each.weights) for name, each in compiled.items()}
    times = tuning.measure(session, libraries, {name: [image] for name in libraries}, ROUNDS)
    return {name: latency.median_ms for name, latency in times.items()}


def _summary(host: targets.TargetInfo, turns: list[Turn], trials: int) -> dict[str, object]:
    def median(of: object) -> float:
        return round(statistics.median(of(turn) for turn in turns), 3)

    stages = sorted({stage for turn in turns for stage in turn.shares})
    return {
        "seconds_ratio": median(lambda turn: turn.stock_seconds / turn.our_seconds),
        "latency_ratio": median(lambda turn: turn.stock_ms / turn.our_ms_same_seconds),
        "latency_ratio_same_trials": median(lambda turn: turn.stock_ms / turn.our_ms_same_trials),
        "shares": {stage: median(lambda turn, stage=stage: turn.shares.get(stage, 0.0)) for stage in stages},
        "trials": trials,
        "turns": [asdict(turn) for turn in turns],
        "network": f"the stem of light_{NETWORK}",
        "measured_on": host.measured_on(),
        "threads": host.threads,
        "tvm": tvm.__version__,
    }


if __name__ == "__main__":
    main()
