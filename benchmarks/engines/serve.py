"""The process of one engine: loads a network, then runs it as often as each line of its input says.

    python -m engines.serve ENGINE MODEL THREADS INPUTS.npz OUTPUTS.npz

Writes a line of JSON when the network is loaded, and one for each line of input: milliseconds of each run.
Engines write to standard output as they like, so these lines go to a descriptor of their own.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def main(engine: str, model: str, threads: str, given: str, found: str) -> None:
    """Serve until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        module = importlib.import_module(f"engines.{engine}")
        with np.load(given) as arrays:
            inputs = [arrays[name] for name in arrays.files]
        run = module.Loaded(Path(model), int(threads))
        np.savez(found, *run(inputs))
        print(json.dumps({"version": module.VERSION}), file=answers, flush=True)
        for line in sys.stdin:
            print(
                json.dumps([_milliseconds(run, inputs) for _ in range(int(line))]), file=answers, flush=True
            )


def _milliseconds(run, inputs: list[np.ndarray]) -> float:
    started = time.perf_counter()
    run(inputs)
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
