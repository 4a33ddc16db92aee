"""Whole networks in our pipeline and in other engines: original, merged, and merged and decomposed.

Decomposed are convolutions (Tucker-2), and then 1x1 ones and dense layers too (SVD).

Each engine runs in a process of its own, on the same ONNX file and the same input, in turns; beside merged
networks the fastest peers of the original run once more. Ours is tuned before, and once more compiled from
the records of the first quarter of the trials. Merged networks are not retrained: their times count, their
outputs are compared with each other's, before a softmax at the end.

    python benchmarks/peers.py [--networks NAME ...] [--threads N ...] [--trials N] [--peers NAME ...]
                               [--variants NAME ...] [--ratio SHARE] [--records DIR]

Merged networks are compared with peers of the original where that is among the variants.

Prints one JSON object: `ratios`, how many times as fast ours is as the fastest peer, as geometric means over
networks and numbers of threads, with the smallest beside each; the same with a quarter of the trials; a row
for each network, variant and number of threads with all medians in milliseconds, how many times as fast ours
is as each peer (the median of the turns, as machines have slow phases), the largest differences from the
reference, relative to its largest value, and the seconds of tuning; and what was missing. A peer that
computes something else counts as missing.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
import onnx
from engines import INSTALL, PEERS
from engines.process import Peer, PeerError
from networks import ZOO

import pipeline
import targets
import tuning
from pipeline.merging import MergeRequest
from pipeline.network import Network
from relay_passes import Ratio, inline_composites

NETWORKS = (
    "light_inception_v1",
    "light_bvlc_alexnet",
    "light_resnet50",
    "light_squeezenet",
    "light_inception_v2",
)
ORIGINAL, MERGED, TUCKER, SVD = "original", "merged", "merged_tucker", "merged_tucker_svd"
VARIANTS = (ORIGINAL, MERGED, TUCKER, SVD)
RANK_MULTIPLE = 16
OURS, QUARTER = "deeprebirth", "deeprebirth_quarter"
TOLERANCE = 1e-3
TURNS, RUN_SECONDS, MOST_RUNS = 15, 0.2, 50

ON_ORIGINAL, RIVALS = "original in ", 2

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A network to measure: its ONNX file, and the original's with the peers that are fastest there."""

    network: str
    variant: str
    model: Path
    threads: int
    original: Path
    rivals: tuple[str, ...]


@dataclass(frozen=True)
class Ours:
    """A network tuned and compiled: two folders, and how long tuning took."""

    quarter: Path
    whole: Path
    seconds_quarter: float
    seconds: float


def main() -> None:
    """Tune, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=[each.name for each in ZOO])
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--trials", type=int, default=640, help="for each network (default: 640)")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--ratio", type=float, default=0.5, help="of multiply-adds that decomposing leaves")
    parser.add_argument("--records", type=Path, help="a tuning database to keep, so that a run goes on")
    options = parser.parse_args()
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="deeprebirth-peers-") as name:
        folder = Path(name)
        records = options.records or folder / "records"
        rows: list[Row] = []
        for network in options.networks:
            for variant, model in _variants(network, folder / network, options):
                for threads in options.threads:
                    original = folder / network / f"{network}.onnx"
                    rivals = _fastest_peers(rows, network, threads)
                    case = Case(network, variant, model, threads, original, rivals)
                    rows.append(_row(case, options, records, missing))
    settings = {"trials": options.trials, "ratio": options.ratio}
    print(json.dumps(summary(rows) | {"missing": missing} | settings | _measured_on(), indent=2))


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the figures of all rows, of which each has a peer."""
    return {"ratios": _ratios(rows, OURS), "ratios_after_a_quarter": _ratios(rows, QUARTER), "rows": rows}


def _ratios(rows: list[Row], ours: str) -> dict[str, Any]:
    """Compare with the fastest peer on the same graph, and on the original one."""
    found: dict[str, list[float]] = {}
    same = {ORIGINAL: "tuned_original_vs_best_peer", MERGED: "merged_vs_best_peer_merged"}
    for row in rows:
        ahead = row["times_as_fast"][ours]
        on_original = [ahead[name] for name in ahead if name.startswith(ON_ORIGINAL)]
        if row["variant"] in same:
            peers = [ahead[name] for name in ahead if not name.startswith(ON_ORIGINAL)]
            found.setdefault(same[row["variant"]], []).append(min(peers))
        if on_original:
            found.setdefault(f"{row['variant']}_vs_best_peer", []).append(min(on_original))
    return {
        name: {"geomean": round(geometric_mean(each), 3), "min": round(min(each), 3)}
        for name, each in found.items()
    }


def _fastest_peers(rows: list[Row], network: str, threads: int) -> tuple[str, ...]:
    """Return the peers that are fastest on the original; none before it was measured."""
    for row in rows:
        if (row["network"], row["variant"], row["threads"]) == (network, ORIGINAL, threads):
            ahead = row["times_as_fast"][OURS]
            return tuple(sorted(ahead, key=ahead.get)[:RIVALS])
    return ()


def _variants(name: str, folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield the network's ONNX files that are wanted, the original first."""
    folder.mkdir()
    original = next(each for each in ZOO if each.name == name).write(folder)
    onnx.save_model(without_softmax(onnx.load(original)), original)
    requests = _requests(options.ratio)
    for variant in (each for each in VARIANTS if each in options.variants):
        if variant == ORIGINAL:
            yield variant, original
            continue
        path = folder / f"{variant}.onnx"
        pipeline.export(original, onnx_file=path, request=requests[variant])
        yield variant, path


def _requests(ratio: float) -> dict[str, MergeRequest]:
    tucker = Ratio(ratio, multiple=RANK_MULTIPLE)
    ranks = {MERGED: None, TUCKER: tucker, SVD: replace(tucker, matrices=True)}
    return {variant: MergeRequest(retraining=True, ranks=each) for variant, each in ranks.items()}


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network without a softmax at its end, which takes no time and would hide differences."""
    graph = model.graph
    ends = {each.name for each in graph.output}
    last = next((node for node in graph.node if node.op_type == "Softmax" and set(node.output) <= ends), None)
    if last is not None:
        shapes = {each.name: each for each in onnx.shape_inference.infer_shapes(model).graph.value_info}
        graph.node.remove(last)
        graph.output[0].CopyFrom(shapes[last.input[0]])
    return model


def _row(case: Case, options: argparse.Namespace, records: Path, missing: dict[str, str]) -> Row:
    imported = pipeline.load_network(case.model)
    host = targets.find("host").with_threads(case.threads)
    inputs = list(imported.golden.inputs.values())
    reference = list(imported.golden.outputs.values())
    label, folder = f"{case.network}, {case.variant}", case.model.parent / f"{case.variant}-{case.threads}"
    ours = _ours(imported, host, options.trials, records / case.network / case.variant, folder)
    places = {OURS: ours.whole, QUARTER: ours.quarter, **dict.fromkeys(options.peers, case.model)}
    with ExitStack() as stack:
        running: dict[str, Peer] = {}
        differences: dict[str, float] = {}
        for name, place in places.items():
            try:
                peer = Peer(OURS if name == QUARTER else name, place, case.threads, inputs)
            except PeerError as error:
                missing[f"{name}: {label}"] = str(error)
                continue
            stack.enter_context(peer)
            differences[name] = _difference(peer.outputs, reference)
            if differences[name] > TOLERANCE:
                missing[f"{name}: {label}"] = f"its outputs differ by {differences[name]:.1e}"
                continue
            running[name] = peer
        for name in case.rivals:
            peer = Peer(name, case.original, case.threads, inputs)
            running[ON_ORIGINAL + name] = stack.enter_context(peer)
        turns = _in_turns(running)
    row = {
        "network": case.network,
        "variant": case.variant,
        "threads": case.threads,
        "ms": {name: round(median(each), 4) for name, each in turns.items()},
        "times_as_fast": {each: times_as_fast(turns, each) for each in (OURS, QUARTER)},
        "max_diff": differences,
        "tuning_seconds": {QUARTER: ours.seconds_quarter, OURS: ours.seconds},
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _ours(network: Network, host: targets.TargetInfo, trials: int, records: Path, folder: Path) -> Ours:
    """Tune with a quarter of the trials, compile, tune with the rest and compile again."""
    module = inline_composites(network.module)
    seconds, places = [], []
    with tuning.LocalSession(host) as session:
        for part, most in (("quarter", trials // 4), ("whole", trials)):
            result = tuning.tune(module, host, session, records, tuning.Budget(trials=most))
            seconds.append(round(result.seconds, 1))
            places.append(folder / part)
            shutil.rmtree(places[-1], ignore_errors=True)
            places[-1].mkdir(parents=True)
            compiled = tuning.compile_module(module, host, records)
            compiled.export(places[-1] / "library.so", places[-1] / "weights.params")
    return Ours(*places, seconds[0], round(sum(seconds), 1))


def _in_turns(running: dict[str, Peer]) -> dict[str, list[float]]:
    """Return the median of each turn, in milliseconds."""
    runs = {name: _runs(peer) for name, peer in running.items()}
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(TURNS):
        for name, peer in running.items():
            found[name].append(median(peer.run(runs[name])))
    return found


def times_as_fast(turns: dict[str, list[float]], ours: str) -> dict[str, float]:
    """Return how many times as fast one of ours is as each peer: the median of the turns' ratios."""
    return {
        name: round(median(their / mine for their, mine in zip(each, turns[ours], strict=True)), 4)
        for name, each in turns.items()
        if name not in (OURS, QUARTER)
    }


def _runs(peer: Peer) -> int:
    """Return how many runs make a turn."""
    peer.run(2)
    return max(2, min(MOST_RUNS, int(1e3 * RUN_SECONDS / median(peer.run(2)))))


def _difference(outputs: list[np.ndarray], reference: list[np.ndarray]) -> float:
    return max(
        float(np.abs(given.reshape(wanted.shape) - wanted).max() / np.abs(wanted).max())
        for given, wanted in zip(outputs, reference, strict=True)
    )


def _measured_on() -> dict[str, Any]:
    return {
        "measured_on": targets.find("host").measured_on(),
        "peers_need": INSTALL,
    }


if __name__ == "__main__":
    main()
