"""Trials a second with our builder and with TVM's own, on GoogLeNet's convolutions.

A trial is one candidate built and measured over RPC on this machine. Both builders get the same candidates,
the same number of workers and the same runner, in turns within one run; the search that made the candidates
counts for neither, and building and measuring follow one another in both. TVM's builder starts its workers in
every round; ours starts them once in a tuning run, so that is done before the first turn. TVM's builder is
slow, so the turns are few and small; it gets four times its own time-out, as a busy machine would otherwise
make its builds fail.

    python benchmarks/trial_rate.py [--turns N] [--batch N]

Prints one JSON object: `ours` and `stock` in trials a second and their `ratio`, the same for building alone,
and what it was measured on.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from networks import seeded_network
from tvm.relax.frontend.onnx import from_onnx
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.builder import BuilderInput
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
import tuning
from tuning.building.local import LocalBuilder
from tuning.lowering.choice import forms
from tuning.measuring.runner import Runner
from tuning.prepare import prepare
from tuning.searching.search import Search, cost_model

NETWORK = "inception_v1"
STOCK_SECONDS = 120.0

Build = Callable[[Sequence[MeasureCandidate]], list[Path | None]]


@dataclass
class Turns:
    """What one builder's turns came to."""

    trials: int = 0
    failed: int = 0
    build_seconds: float = 0.0
    run_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Trials a second."""
        return self.trials / (self.build_seconds + self.run_seconds)

    @property
    def build_rate(self) -> float:
        """Builds a second."""
        return self.trials / self.build_seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=2, help="turns of each builder (default: 2)")
    parser.add_argument("--batch", type=int, default=8, help="candidates of a turn (default: 8)")
    options = parser.parse_args()
    host = targets.find("host")
    batches = _batches(host, options.turns, options.batch)
    with tuning.LocalSession(host) as session:
        turns = _take_turns(host, session, batches)
    print(json.dumps(_summary(host, turns, options.batch), indent=2))


def _batches(host: targets.TargetInfo, turns: int, size: int) -> list[list[MeasureCandidate]]:
    """Return a batch of candidates for each turn; those of one are of different direct convolutions."""
    target = host.target()
    direct = forms(from_onnx(seeded_network(NETWORK)), target)[0].module
    tasks = ms.relax_integration.extract_tasks(
        prepare(direct, target), target, module_equality="ignore-tensor"
    )
    convolutions = [task for task in tasks if "conv2d" in task.task_name][:size]
    found = []
    for task in convolutions:
        search = Search(task.dispatched[0], host, 1, True, ms.database.MemoryDatabase(), cost_model(host))
        found.append(search.candidates(turns, set()))
    return [list(batch) for batch in zip(*found, strict=True)]


def _take_turns(
    host: targets.TargetInfo, session: tuning.Session, batches: list[list[MeasureCandidate]]
) -> dict[str, Turns]:
    with ExitStack() as stack:
        ours = stack.enter_context(closing(LocalBuilder(host)))
        runner = stack.enter_context(Runner(session.rpc_config))
        builds: dict[str, Build] = {"ours": _ours(ours), "stock": _stock(host, ours.slots)}
        turns = {name: Turns() for name in builds}
        for path in builds["ours"](batches[0][: ours.slots]):
            _remove(path)
        for batch in batches:
            for name, build in builds.items():
                _take_turn(turns[name], build, runner, batch)
        return turns


def _ours(builder: LocalBuilder) -> Build:
    def build(batch: Sequence[MeasureCandidate]) -> list[Path | None]:
        futures = [builder.submit(candidate.sch.mod) for candidate in batch]
        return [future.result().path for future in futures]

    return build


def _stock(host: targets.TargetInfo, workers: int) -> Build:
    builder = ms.builder.LocalBuilder(max_workers=workers, timeout_sec=STOCK_SECONDS)
    target = host.target()

    def build(batch: Sequence[MeasureCandidate]) -> list[Path | None]:
        built = builder.build([BuilderInput(candidate.sch.mod, target) for candidate in batch])
        return [None if each.error_msg is not None else Path(str(each.artifact_path)) for each in built]

    return build


def _take_turn(turns: Turns, build: Build, runner: Runner, batch: Sequence[MeasureCandidate]) -> None:
    started = time.perf_counter()
    paths = build(batch)
    turns.build_seconds += time.perf_counter() - started
    started = time.perf_counter()
    for candidate, path in zip(batch, paths, strict=True):
        turns.trials += 1
        measured = runner.submit(path, candidate.args_info).result() if path else None
        turns.failed += measured is None or measured.failure is not None
        _remove(path)
    turns.run_seconds += time.perf_counter() - started


def _remove(library: Path | None) -> None:
    if library is not None:
        shutil.rmtree(library.parent, ignore_errors=True)


def _summary(host: targets.TargetInfo, turns: dict[str, Turns], batch: int) -> dict[str, Any]:
    ours, stock = turns["ours"], turns["stock"]
    return {
        "ours": round(ours.rate, 3),
        "stock": round(stock.rate, 3),
        "ratio": round(ours.rate / stock.rate, 2),
        "unit": "trials a second, building and measuring",
        "building_alone": {
            "ours": round(ours.build_rate, 3),
            "stock": round(stock.build_rate, 3),
            "ratio": round(ours.build_rate / stock.build_rate, 2),
        },
        "trials": ours.trials,
        "failed": {"ours": ours.failed, "stock": stock.failed},
        "candidates_in_a_round": batch,
        "network": f"light_{NETWORK}",
        "measured_on": host.measured_on(),
        "tvm": tvm.__version__,
    }


if __name__ == "__main__":
    main()
