"""GoogLeNet through a mobile GPU's target on PoCL, original and merged: kernels launched, times, numbers.

Each is compiled untuned and tuned; all four are timed in turns in one session, so that they meet the same
machine.

    python benchmarks/opencl_network.py [--target T] [--network N] [--trials N] [--seconds S]

Prints one JSON object: `max_diff`, the largest difference of the four from what torch computes, before a
softmax, relative to the range of those values; `launches` of one inference; `latency_ms`, medians; and the
device. PoCL is this machine's processor: its times are not those of a phone, and no speed-up is claimed.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import tvm
from networks import ZOO

import targets
import tuning
from pipeline.importer import load_network
from pipeline.merging import MergeRequest, merge_network
from pipeline.twin import evaluate
from relay_passes import inline_composites, strip_softmax
from tuning.devices.opencl import require_behind

RUNS = 15
DIGITS = 3
MEASURE_SECONDS = 240.0


def main() -> None:
    """Tune, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="mali-g76+host", help="default: mali-g76+host")
    parser.add_argument(
        "--network", default="light_inception_v1", choices=[entry.name for entry in ZOO], help="of the zoo"
    )
    parser.add_argument(
        "--trials", type=int, default=96, help="of the original and of the merged, each (default: 96)"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of tuning each at most (default: 120)")
    options = parser.parse_args()
    target = targets.find(options.target)
    with (
        tempfile.TemporaryDirectory(prefix="deeprebirth-opencl-") as folder,
        tuning.LocalSession(target) as local,
    ):
        modules, image, expected = _networks(options.network, Path(folder))
        budget = tuning.Budget(options.trials, options.seconds)
        records = Path(folder) / "records"
        found = {
            name: tuning.tune(module, target, local, records, budget, name=name)
            for name, module in modules.items()
        }
        built = {
            f"{name} {how}": tuning.compile_module(module, target, base)
            for name, module in modules.items()
            for how, base in (("untuned", None), ("tuned", records))
        }
        libraries = {name: tuning.Library(each.library, each.weights) for name, each in built.items()}
        differences = {
            name: _difference(local, target, library, image, expected[name.split()[0]])
            for name, library in libraries.items()
        }
        times = tuning.measure(
            local,
            libraries,
            {name: [image] for name in libraries},
            RUNS,
            seconds=MEASURE_SECONDS,
            device_type=target.device_type,
        )
        device, emulated = require_behind(local.rpc_config).in_words(), local.emulated(target)
    print(
        json.dumps(
            {
                "max_diff": max(differences.values()),
                "launches": {name: each.launches for name, each in built.items()},
                "latency_ms": {name: round(each.median_ms, DIGITS) for name, each in times.items()},
                "records_applied": {name: each.records_applied for name, each in built.items()},
                "trials": {name: each.trials_measured for name, each in found.items()},
                "failures": {name: each.failures for name, each in found.items()},
                "network": options.network,
                "target": target.name,
                "measured_on": device,
                "emulated": emulated,
            },
            indent=2,
        )
    )


def _networks(name: str, folder: Path) -> tuple[dict[str, tvm.IRModule], np.ndarray, dict[str, np.ndarray]]:
    """Return original and merged without a final softmax, an image, and what each gives for it."""
    entry = next(entry for entry in ZOO if entry.name == name)
    network = load_network(entry.write(folder))
    merged = merge_network(network, MergeRequest(retraining=True)).module
    stripped = {"original": strip_softmax(network.module), "merged": strip_softmax(merged)}
    (image,) = network.golden.inputs.values()
    expected = {each: evaluate(module, [image])[0] for each, module in stripped.items()}
    return {each: inline_composites(module) for each, module in stripped.items()}, image, expected


def _difference(
    session: tuning.Session,
    target: targets.TargetInfo,
    library: tuning.Library,
    image: np.ndarray,
    expected: np.ndarray,
) -> float:
    (output,) = tuning.run_remote(
        session, library, [image], seconds=MEASURE_SECONDS, device_type=target.device_type
    )
    return float(np.abs(output - expected).max() / np.ptp(expected))


if __name__ == "__main__":
    main()
