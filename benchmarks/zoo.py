"""Import, plan and merge every network of the zoo (`benchmarks/networks.py`), and say how far off they are.

    python benchmarks/zoo.py [--only NAME ...] [--seconds N]

Prints one JSON object; what each figure means stands in it under `figures`. Each network is a process of its
own, so that one that crashes or hangs is told as `failed`, and no other's memory counts. Exits 1 if a network
became anything else than what was expected of it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from networks import ZOO, ZooNetwork

import targets

FIGURES = {
    "status": "imported, refused (with the reason), skipped (a package is missing), or failed",
    "max_diff": "largest difference from the reference with the exact merges made, before a final softmax or "
    "sigmoid, relative to the largest of those values",
    "reference": "what computed the reference, on the file as it is",
    "merges": "merges made, by kind; with those that need retraining",
    "refusals": "layers left as they are, by reason",
    "macs": "multiply-adds before and after all merges",
    "params": "parameters before and after all merges",
    "seconds": "import, plan and merge, each merge checked as it is made; without starting Python",
    "plan_seconds": "the plan alone",
    "peak_memory_mb": "largest resident memory of the process, MiB",
}


def main() -> None:
    """Go through the zoo and print."""
    names = [network.name for network in ZOO]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="some networks only")
    parser.add_argument("--seconds", type=float, default=120, help="limit for one network (default: 120)")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, file = options.measure
        print(json.dumps(_measured(_named(name), Path(file))))
        return
    chosen = [_named(name) for name in options.only or names]
    found = {network.name: _in_child(network, options.seconds) for network in chosen}
    print(json.dumps({"networks": found, "figures": FIGURES, **_measured_on()}, indent=2))
    sys.exit(any(entry["status"] not in (_named(name).status, "skipped") for name, entry in found.items()))


def _named(name: str) -> ZooNetwork:
    return next(network for network in ZOO if network.name == name)


def _in_child(network: ZooNetwork, seconds: float) -> dict[str, Any]:
    print(network.name, end=": ", file=sys.stderr, flush=True)
    entry = {"status": "skipped", "reason": network.missing} if network.missing else _run(network, seconds)
    print(entry["status"], entry.get("reason", ""), file=sys.stderr)
    return entry


def _run(network: ZooNetwork, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = network.write(Path(folder))
        command = [sys.executable, __file__, "--measure", network.name, str(file)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=seconds, check=True)
            return json.loads(done.stdout)
        except (subprocess.SubprocessError, json.JSONDecodeError) as error:
            return {"status": "failed", "reason": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


def _measured(network: ZooNetwork, file: Path) -> dict[str, Any]:
    """What became of one network, measured in this process."""
    from pipeline import load_network
    from pipeline.errors import UserError
    from pipeline.merging import MergeRequest, merge_network
    from relay_passes import cost, plan_merges

    started = time.perf_counter()
    try:
        loaded = load_network(file, input_shapes=network.input_shapes)
    except UserError as error:
        return {"status": "refused", "reason": str(error)}
    imported = time.perf_counter()
    plan_merges(loaded.module)
    planned = time.perf_counter()
    merged = merge_network(loaded, MergeRequest(retraining=True))
    done = time.perf_counter()
    peak = _peak_memory()
    before, after = cost(loaded.module), cost(merged.module)
    return {
        "status": "imported",
        "max_diff": _difference(loaded, merge_network(loaded, MergeRequest()).module),
        "reference": loaded.framework if loaded.framework == "torch" else "onnxruntime",
        "merges": _counts(candidate.kind for candidate in merged.plan.candidates),
        "refusals": _counts(refusal.reason for refusal in merged.plan.refusals),
        "macs": {"before": before.macs, "after": after.macs},
        "params": {"before": before.parameters, "after": after.parameters},
        "seconds": round(done - started, 2),
        "plan_seconds": round(planned - imported, 2),
        "peak_memory_mb": peak,
    }


def _difference(loaded: Any, module: Any) -> float:
    from pipeline.twin import evaluate
    from relay_passes import strip_softmax

    outputs = evaluate(strip_softmax(module), list(loaded.golden.inputs.values()))
    return max(
        float(np.abs(output - wanted).max() / np.abs(wanted).max())
        for output, wanted in zip(outputs, loaded.golden.logits.values(), strict=True)
    )


def _counts(words: Iterable[str]) -> dict[str, int]:
    return {str(word): number for word, number in Counter(words).most_common()}


def _peak_memory() -> int:
    """In MiB, of this process alone; `getrusage` would also count the one that started it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024


def _measured_on() -> dict[str, Any]:
    packages = ("apache-tvm", "onnx", "onnxruntime", "torch")
    return {
        "measured_on": targets.find("host").measured_on(),
        "versions": {package: metadata.version(package) for package in packages},
    }


if __name__ == "__main__":
    main()
