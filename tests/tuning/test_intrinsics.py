"""The CPU's tensor intrinsics come without those of GPUs, and serve MetaSchedule."""

import subprocess
import sys

PROGRAM = """
import sys
from tuning.intrinsics import import_cpu_intrinsics
import_cpu_intrinsics()
import_cpu_intrinsics()
import tvm.s_tir.tensor_intrin
from tvm.s_tir import TensorIntrin
package = "tvm.s_tir.tensor_intrin"
print([f"{package}.{name}" in sys.modules for name in ("x86", "arm_cpu", "cuda", "hexagon")])
print(TensorIntrin.get("dot_16x4_vnni") is not None)
"""


def test_only_those_of_processors_are_imported() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    assert printed.stdout.splitlines() == ["[True, True, False, False]", "True"]
