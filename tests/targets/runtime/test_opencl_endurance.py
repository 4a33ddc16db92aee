"""Ten thousand launches and two hundred times loading and unloading leave nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

ENDURE = """
import gc, json, sys, numpy as np, tvm
path, launches, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
device = tvm.opencl(0)
values = np.arange(100, dtype="float32")
load_kernels = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")
with open(path, "rb") as file:
    kernels = file.read()

def counts():
    return json.loads(tvm.get_global_func("deeprebirth.opencl.counts")())

def resident():
    gc.collect()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

def launch(times):
    doubled = load_kernels(kernels)["doubled"]
    tensor, result = (tvm.runtime.tensor(values, device) for _ in range(2))
    for each in range(times):
        doubled(tensor, result, 10, 10)
        if each % 100 == 0:
            device.sync()
    np.testing.assert_array_equal(result.numpy(), values * 2)

def load(times):
    for _ in range(times):
        launch(1)

def grown(work, times):
    work(times // 4)
    before = resident()
    work(times)
    return resident() - before

launch_kb, load_kb = grown(launch, launches), grown(load, rounds)
print(json.dumps(counts() | {"launch_kb": launch_kb, "load_kb": load_kb}))
"""
LAUNCHES, ROUNDS = 10_000, 200
MOST_KB = 2_000
"""What the process may grow: less than 200 bytes for a launch and 10 kB for a round."""


TENSOR = (3, 64, 1)
SOURCE = """
__kernel void doubled(__global const float* in, __global float* out) {
  out[get_global_id(0)] = in[get_global_id(0)] * 2;
}
"""


def test_memory_is_constant(device, write_module, tmp_path: Path):
    library = tmp_path / "kernels"
    library.write_bytes(write_module(SOURCE, "doubled", [TENSOR, TENSOR], ["blockIdx.x", "threadIdx.x"]))
    environment = os.environ | {
        "TVM_USE_RUNTIME_LIB": "1",
        "DEEPREBIRTH_OPENCL_CACHE": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-c", ENDURE, str(library), str(LAUNCHES), str(ROUNDS)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["buffers"], found["bytes"]) == (0, 0)
    assert (found["programs_built"], found["programs_cached"]) == (1, 1 + 5 * ROUNDS // 4)
    assert found["launches"] == 5 * (LAUNCHES + ROUNDS) // 4
    assert max(found["launch_kb"], found["load_kb"]) < MOST_KB, found
