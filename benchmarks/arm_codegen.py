"""What TVM's code for ARM is made of, for GoogLeNet's most expensive convolutions, original and merged.

Each is compiled for a Cortex-A72 in NCHW without a schedule, and on packed tensors with the first plain
schedule that a search tries. Its instructions are counted as it executes under qemu, exactly and without a
word on time; where qemu or the cross compiler is missing they are counted in the assembly of the inner loop.

    python benchmarks/arm_codegen.py [--model MODEL] [--convolutions N]

Prints one JSON object: `min_vector_share`, the smallest share of an inner loop's multiply-adds that plain
schedules do in vectors; for both networks the instructions executed for each multiply-add, beside the peak's,
which is that of full vectors and nothing else, and the bytes loaded and stored for each; a row for each
convolution; and how it was counted. Multiply-adds of padding
are not counted as such, but as a cost of those that go into results.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm
from codegen.counting import Counter, Executing, Finding, statically
from codegen.emulation import Emulator, missing
from codegen.kernels import KINDS, Convolution, heaviest
from networks import ZOO

import pipeline
from pipeline.merging import MergeRequest, merge_network
from tuning.searching.processor import processor_of

NETWORK = "light_inception_v1"
CPU = "cortex-a72"
TARGET = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": CPU, "num-cores": 4}
DIGITS = 4
INSTRUCTIONS = "instructions_per_multiply_add"
MOVED_BYTES = "moved_bytes_per_multiply_add"

Row = dict[str, Any]


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--convolutions", type=int, default=10, help="of each network, the most expensive first (default: 10)"
    )
    parser.add_argument("--model", type=Path, help="another network than GoogLeNet, an ONNX file")
    options = parser.parse_args()
    target = tvm.target.Target(TARGET)
    peak = 1 / processor_of(target).lanes
    with tempfile.TemporaryDirectory(prefix="deeprebirth-codegen-") as folder:
        counter, counted = _counter(Path(folder))
        rows = [
            {**_row(network, convolution, counter, target), "peak": {INSTRUCTIONS: peak}}
            for network, module in _modules(options.model or _googlenet(Path(folder))).items()
            for convolution in heaviest(module, target, options.convolutions)
        ]
    if not rows:
        parser.error("there are no convolutions to count in")
    print(json.dumps(summary(rows, counted), indent=2))


def summary(rows: list[Row], counted: str) -> dict[str, Any]:
    """Return the figures of all rows, of which there is at least one, and how it was counted."""
    return {
        "min_vector_share": min(row["plain"]["vector_share"] for row in rows),
        INSTRUCTIONS: _by_network(rows, (*KINDS, "peak"), INSTRUCTIONS),
        MOVED_BYTES: _by_network(rows, KINDS, MOVED_BYTES),
        "rows": rows,
        "counted": counted,
        "target": TARGET,
    }


def _counter(folder: Path) -> tuple[Counter, str]:
    """Return what counts, and how it does in words."""
    install = missing()
    if install is not None:
        return statically, f"static, in the inner loop's assembly; to count what is executed: {install}"
    emulator = Emulator(folder, CPU)
    return Executing(emulator), f"executed under qemu: {emulator.measured_on}"


def _googlenet(folder: Path) -> Path:
    return next(each for each in ZOO if each.name == NETWORK).write(folder)


def _modules(model: Path) -> dict[str, tvm.IRModule]:
    network = pipeline.load_network(model)
    return {
        "original": network.module,
        "merged": merge_network(network, MergeRequest(retraining=True)).module,
    }


def _row(network: str, convolution: Convolution, counter: Counter, target: tvm.target.Target) -> Row:
    print(f"{network}: {convolution.name}", file=sys.stderr)
    findings = {kind: counter(make(convolution, target), target) for kind, make in KINDS.items()}
    return {
        "network": network,
        "name": convolution.name,
        "calls": convolution.calls,
        "image": convolution.image,
        "weight": convolution.weight,
        "output": convolution.output,
        "multiply_adds": convolution.multiply_adds,
        **{kind: _rounded(finding) for kind, finding in findings.items()},
    }


def _rounded(finding: Finding) -> Row:
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in asdict(finding).items()
    }


def _by_network(rows: list[Row], kinds: Iterable[str], figure: str) -> dict[str, dict[str, float]]:
    networks = dict.fromkeys(row["network"] for row in rows)
    return {
        network: {
            kind: _mean([row for row in rows if row["network"] == network], kind, figure) for kind in kinds
        }
        for network in networks
    }


def _mean(rows: Iterable[Row], kind: str, figure: str) -> float:
    """Weigh each convolution with its multiply-adds in all its calls."""
    weights = [(row["calls"] * row["multiply_adds"], row[kind]) for row in rows]
    total = sum(weight * found[figure] for weight, found in weights)
    return round(total / sum(weight for weight, _ in weights), DIGITS)


if __name__ == "__main__":
    main()
