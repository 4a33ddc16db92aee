"""Trials a second with our builder and with TVM's own, on GoogLeNet's convolutions.

A trial is one candidate built and measured over RPC on this machine. Both builders get the same candidates,
the same number of workers and the same runner, in turns within one run; the search that made the candidates
counts for neither. TVM's builder starts its workers in every round; ours starts them once in a tuning run, so
that is done before the first turn. TVM's builder is slow, so the turns are few and small; it gets four times
its own time-out, as a busy machine would otherwise make its builds fail.

    python benchmarks/trial_rate.py [--turns N] [--batch N]

Prints one JSON object: `ours` and `stock` in trials a second and their `ratio`, the same for building alone,
and what it was measured on.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import tvm
from networks import seeded_network
from tvm.relax.frontend.onnx import from_onnx
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.builder import BuilderInput, LocalBuilder
from tvm.s_tir.meta_schedule.runner import RunnerInput
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
import tuning
from tuning.building.builder import CandidateBuilder
from tuning.measuring.runner import SessionRunner
from tuning.prepare import prepare
from tuning.searching.search import Search, cost_model

NETWORK = "inception_v1"
STOCK_SECONDS = 120.0


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
    """Return a batch of candidates for each turn; the candidates of one are of different convolutions."""
    module = prepare(from_onnx(seeded_network(NETWORK)), host.target())
    tasks = ms.relax_integration.extract_tasks(module, host.target(), module_equality="ignore-tensor")
    convolutions = [task for task in tasks if "conv2d" in task.task_name][:size]
    found = []
    for task in convolutions:
        search = Search(task.dispatched[0], host, 1, True, ms.database.MemoryDatabase(), cost_model(host))
        found.append(search.candidates(turns, set()))
    return [list(batch) for batch in zip(*found, strict=True)]


def _take_turns(
    host: targets.TargetInfo, session: tuning.Session, batches: list[list[MeasureCandidate]]
) -> dict[str, Turns]:
    ours = CandidateBuilder(host.require_compiler(), host.threads)
    builders = {"ours": ours, "stock": LocalBuilder(max_workers=host.threads, timeout_sec=STOCK_SECONDS)}
    runner = SessionRunner(session.rpc_config)
    turns = {name: Turns() for name in builders}
    try:
        ours.build(_inputs(batches[0][: host.threads], host.target()))
        for batch in batches:
            for name, builder in builders.items():
                _take_turn(turns[name], builder, runner, batch, host.target())
    finally:
        runner.close()
        ours.close()
    return turns


def _take_turn(
    turns: Turns,
    builder: Any,
    runner: SessionRunner,
    batch: list[MeasureCandidate],
    target: tvm.target.Target,
) -> None:
    started = time.perf_counter()
    built = builder.build(_inputs(batch, target))
    turns.build_seconds += time.perf_counter() - started
    started = time.perf_counter()
    for candidate, artefact in zip(batch, built, strict=True):
        turns.trials += 1
        if artefact.error_msg is None:
            result = runner.measure(RunnerInput(artefact.artifact_path, "cpu", candidate.args_info))
            turns.failed += result.error_msg is not None
            ms.utils.remove_build_dir(str(artefact.artifact_path))
        else:
            turns.failed += 1
    turns.run_seconds += time.perf_counter() - started


def _inputs(batch: list[MeasureCandidate], target: tvm.target.Target) -> list[BuilderInput]:
    return [BuilderInput(candidate.sch.mod, target) for candidate in batch]


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
