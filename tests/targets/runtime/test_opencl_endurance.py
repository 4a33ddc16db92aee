"""Ten thousand launches and two hundred times loading and unloading leave nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENDURE = """
import gc, json, sys, numpy as np, tvm
path, launches, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
device = tvm.opencl(0)
values = np.arange(100, dtype="float32")

def counts():
    return json.loads(tvm.get_global_func("deeprebirth.opencl.counts")())

def resident():
    gc.collect()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

def launch(times):
    library = tvm.runtime.load_module(path)
    tensor, result = (tvm.runtime.tensor(values, device) for _ in range(2))
    for each in range(times):
        library["main"](tensor, result)
        if each % 100 == 0:
            device.sync()
    np.testing.assert_array_equal(result.numpy(), values * 3 + 2)

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
"""What the process may grow; 10,000 launches that lose 200 bytes each, or 200 rounds that lose 10 kB each, are more.
A round's program in PoCL is about 1 MB."""


@pytest.fixture(scope="module")
def library(needs_opencl, affine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "affine.so"
    affine("float32", 100).export_library(str(path))
    return path


def test_memory_is_constant(library: Path, tmp_path: Path):
    environment = os.environ | {"TVM_USE_RUNTIME_LIB": "1", "DEEPREBIRTH_OPENCL_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", ENDURE, str(library), str(LAUNCHES), str(ROUNDS)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["buffers"], found["bytes"]) == (0, 0)
    assert found["launches"] == 5 * (LAUNCHES + ROUNDS) // 4
    assert found["launch_kb"] < MOST_KB
    assert found["load_kb"] < MOST_KB
