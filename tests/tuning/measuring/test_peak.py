"""The peak rate: between what a good library reaches and what the processor could do at most."""

import re
import time

import numpy as np
import pytest
import tvm

import targets
import tuning
from tuning.measuring.peak import peak_gflops, peak_kernel

WIDEST = 16
UNITS = 2
GENEROUS_GHZ = 8


def matmul_gflops(size: int = 768) -> float:
    """The best of several products of matrices in NumPy."""
    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype("float32")
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2e-9 * size**3 / min(seconds)


def test_the_peak_is_plausible(session: tuning.LocalSession, host: targets.TargetInfo) -> None:
    peak = peak_gflops(session, host)
    assert peak > matmul_gflops() / 4
    assert peak < host.threads * WIDEST * UNITS * 2 * GENEROUS_GHZ


@pytest.mark.parametrize(
    ("triple", "cpu", "lanes", "instruction"),
    [
        ("x86_64-linux-gnu", "core-avx2", 8, r"vfmadd\w+ps\t%ymm"),
        ("aarch64-linux-gnu", "cortex-a72", 4, r"fmla\tv\d+\.4s"),
    ],
)
def test_the_loop_is_multiply_adds_in_registers(triple: str, cpu: str, lanes: int, instruction: str) -> None:
    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})
    assembly = tvm.tirx.build(peak_kernel(2, lanes), target=target).inspect_source("asm").splitlines()
    found = [number for number, line in enumerate(assembly) if re.search(instruction, line)]
    loop = [line.split()[0] for line in assembly[found[0] : found[-1]]]
    assert len(found) % 12 == 0
    assert len(loop) - len(found) <= len(found) // 12


def test_without_a_device_the_reason_is_told(host: targets.TargetInfo, session: tuning.LocalSession) -> None:
    config = session.rpc_config
    absent = tuning.RemoteSession(config.host, config.port, "phone", threads=2)
    lines: list[str] = []
    assert peak_gflops(absent, host, lines.append) is None
    assert len(lines) == 1
    assert lines[0].startswith("no peak rate: no device serves the key 'phone'")
