"""What this machine is: its processor's model and the number of cores a process may use.

TVM takes half of the x86 cores for hyper-threads. The operating system's affinity mask and the container's
quota say how many there really are.
"""

import math
import os
import platform
from pathlib import Path

_MODEL_KEYS = ("model name", "Model", "Hardware")


def core_count(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of cores this process may use: affinity mask and cgroup quota, at least 1."""
    return max(1, min(len(os.sched_getaffinity(0)), _quota(quota)))


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name as the kernel tells it, or the architecture where it tells none."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return next((fields[key] for key in _MODEL_KEYS if fields.get(key)), platform.machine())


def describe(cores: int) -> str:
    """Return this machine in words, such as ``AMD EPYC, 2 cores, Linux x86_64``."""
    unit = "core" if cores == 1 else "cores"
    return f"{cpu_model()}, {cores} {unit}, {platform.system()} {platform.machine()}"


def _quota(cpu_max: Path) -> int:
    """Return the cores that a ``cpu.max`` file of cgroup v2 grants; a huge number if it sets no limit."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return 1 << 16
