"""What plain schedules win in a task's first trials, on GoogLeNet's heaviest convolutions.

Two searches of the same task, one of which begins with plain schedules, get the same number of trials in the
same rounds; their candidates are measured in turns within one run, over RPC on this machine. Neither knows
anything of earlier runs; each learns from its own trials.

    python benchmarks/first_trials.py [--tasks N]

Prints one JSON object: `gain_at_1`, `gain_at_4` and `gain_at_8`, the time of the best schedule found without
plain ones against that found with them, as the median over the tasks; the times of each task; and what it was
measured on.
"""

import argparse
import json
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import tvm
from networks import seeded_network
from tvm.relax.frontend.onnx import from_onnx
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

import targets
import tuning
from tuning.building.built import Builder
from tuning.building.local import LocalBuilder
from tuning.lowering.choice import forms
from tuning.measuring.runner import Runner
from tuning.prepare import prepare
from tuning.records.database import FAILED_SECONDS, trace_key
from tuning.searching.lessons import cost_model
from tuning.searching.search import Search

NETWORK = "inception_v1"
ROUNDS = (4, 4)
LOOKS = (1, 4, 8)


@dataclass
class Arm:
    """One search of a task, and the times of its candidates in their order."""

    search: Search
    database: ms.database.Database
    workload: ms.database.Workload
    known: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    def round(self, size: int) -> list[MeasureCandidate]:
        """Return the next candidates."""
        found = self.search.candidates(size, self.known)
        self.known |= {trace_key(each.sch.trace) for each in found}
        return found

    def learn(
        self, candidates: list[MeasureCandidate], times: list[float | None], target: tvm.target.Target
    ) -> None:
        """Take in the times of the last round."""
        for candidate, seconds in zip(candidates, times, strict=True):
            run_secs = [FAILED_SECONDS if seconds is None else seconds]
            self.database.commit_tuning_record(
                ms.database.TuningRecord(
                    candidate.sch.trace, self.workload, run_secs, target, candidate.args_info
                )
            )
            self.seconds.append(run_secs[0])
        results = [
            RunnerResult(None, "failed") if each is None else RunnerResult([each], None) for each in times
        ]
        self.search.learn(candidates, results)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=6, help="convolutions, the heaviest first (default: 6)")
    options = parser.parse_args()
    host = targets.find("host")
    with ExitStack() as stack:
        session = stack.enter_context(tuning.LocalSession(host))
        builder = stack.enter_context(closing(LocalBuilder(host)))
        runner = stack.enter_context(closing(Runner(session.rpc_config)))
        rows = [_compare(task, host, builder, runner) for task in _heaviest(host, options.tasks)]
    print(json.dumps(_summary(rows, host), indent=2))


def _heaviest(host: targets.TargetInfo, size: int) -> list[ms.ExtractedTask]:
    """Return the most expensive direct convolutions of packed tensors."""
    target = host.target()
    direct = forms(from_onnx(seeded_network(NETWORK)), target)[0].module
    tasks = ms.relax_integration.extract_tasks(
        prepare(direct, target), target, module_equality="ignore-tensor"
    )
    convolutions = [task for task in tasks if "conv2d" in task.task_name]
    return sorted(convolutions, key=lambda task: -task.weight * estimate_tir_flops(task.dispatched[0]))[:size]


def _compare(
    task: ms.ExtractedTask, host: targets.TargetInfo, builder: Builder, runner: Runner
) -> dict[str, Any]:
    arms = {"with": _arm(task, host, {}), "without": _arm(task, host, {"plain": 0})}
    for size in ROUNDS:
        found = {name: arm.round(size) for name, arm in arms.items()}
        times = _measured(found, builder, runner)
        for name, arm in arms.items():
            arm.learn(found[name], times[name], host.target())
    best = {name: [min(arm.seconds[:look]) for look in LOOKS] for name, arm in arms.items()}
    return {"task": task.task_name, **{name: [round(each * 1e6, 1) for each in best[name]] for name in best}}


def _arm(task: ms.ExtractedTask, host: targets.TargetInfo, options: dict[str, int]) -> Arm:
    database = ms.database.MemoryDatabase("ignore-tensor")
    module = task.dispatched[0]
    search = Search(module, host, 1, True, database, cost_model(host), **options)
    return Arm(search, database, database.commit_workload(module))


def _measured(
    found: dict[str, list[MeasureCandidate]], builder: Builder, runner: Runner
) -> dict[str, list[float | None]]:
    """Build all candidates, then measure one of each search after the other; a failed one has no time."""
    built = {name: [builder.submit(each.sch.mod) for each in found[name]] for name in found}
    built = {name: [future.result() for future in futures] for name, futures in built.items()}
    times: dict[str, list[float | None]] = {name: [] for name in found}
    for place in range(max(map(len, found.values()))):
        for name, candidates in found.items():
            if place < len(candidates):
                times[name].append(_time(built[name][place], candidates[place], runner))
    return times


def _time(built: Any, candidate: MeasureCandidate, runner: Runner) -> float | None:
    if built.failure is not None:
        return None
    try:
        return runner.submit(built.path, candidate.args_info).result().mean
    finally:
        built.discard()


def _summary(rows: list[dict[str, Any]], host: targets.TargetInfo) -> dict[str, Any]:
    gains = {
        f"gain_at_{look}": round(median(row["without"][place] / row["with"][place] for row in rows), 2)
        for place, look in enumerate(LOOKS)
    }
    return {
        **gains,
        "unit": "time of the best schedule without plain ones / with them, median over the tasks",
        "best_us": {"trials": LOOKS, "tasks": rows},
        "network": f"light_{NETWORK}",
        "measured_on": host.measured_on(),
        "tvm": tvm.__version__,
    }


if __name__ == "__main__":
    main()
