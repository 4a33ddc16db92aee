"""Load this bundle with the TVM runtime alone, run its golden input and compare with its golden output."""

import json
import os
import sys
from pathlib import Path

import numpy as np

KINDS = ("input_", "output_")


def main() -> int:
    """Run the network once; 0 when its outputs are the golden ones, 1 when they differ."""
    here = Path(__file__).resolve().parent
    manifest = json.loads((here / "manifest.json").read_text(encoding="utf-8"))
    for notice in manifest["notices"]:
        print(f"notice: {notice}")
    os.environ.setdefault("TVM_NUM_THREADS", str(manifest["target"]["threads"]))
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    import tvm
    from tvm.runtime.vm import VirtualMachine

    golden = np.load(here / "golden.npz")
    stored = tvm.runtime.load_param_dict((here / "weights.params").read_bytes())
    weights = multiplied({str(name): tensor.numpy() for name, tensor in stored.items()})
    inputs, outputs = ([golden[name] for name in golden.files if name.startswith(kind)] for kind in KINDS)
    kind = manifest["target"].get("device_type", "cpu")
    device = tvm.device(kind)
    if not device.exist:
        print(f"error: there is no {kind} device here: install its driver and the runtime", file=sys.stderr)
        return 1
    network = VirtualMachine(tvm.runtime.load_module(str(here / "library.so")), device)
    arguments = [tvm.runtime.tensor(value, device) for value in (*inputs, *weights)]
    result = network["main"](*arguments)
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    differences = [
        np.max(np.abs(computed.numpy().astype("float64") - expected), initial=0.0)
        for computed, expected in zip(results, outputs, strict=True)
    ]
    difference = float(np.max(differences))
    print(f"largest difference from the golden output: {difference!r}")
    return 0 if difference <= manifest["tolerance"] else 1


def multiplied(stored: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The weights in the order of their names; NAME.float32 holds int8 numbers, NAME.scales their scales."""
    weights = []
    for key in sorted(stored):
        name, _, kind = key.partition(".")
        if kind != "scales":
            array = stored[key]
            weights.append((array * stored[f"{name}.scales"]).astype(kind) if kind else array)
    return weights


if __name__ == "__main__":
    sys.exit(main())
