"""What is read from the kernel about this machine."""

import os
import platform
from pathlib import Path

import pytest

from targets import machine


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 9B45\nflags\t: a b\n", "AMD EPYC 9B45"),
        ("processor\t: 0\nBogoMIPS\t: 38.4\n\nModel\t\t: Raspberry Pi 4 Model B\n", "Raspberry Pi 4 Model B"),
        ("processor\t: 0\nHardware\t: Qualcomm SDM845\n", "Qualcomm SDM845"),
        ("processor\t: 0\nmodel name\t:\n", platform.machine()),
        ("", platform.machine()),
    ],
)
def test_cpu_model(tmp_path: Path, text: str, model: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    assert machine.cpu_model(path) == model


def test_cpu_model_of_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert machine.cpu_model(tmp_path / "missing") == platform.machine()


@pytest.mark.parametrize(
    ("text", "cores"),
    [("100000 100000\n", 1), ("50000 100000\n", 1), ("max 100000\n", None), ("nonsense", None)],
)
def test_core_count_keeps_to_the_cgroup_quota(tmp_path: Path, text: str, cores: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text, encoding="ascii")
    assert machine.core_count(quota) == (cores or len(os.sched_getaffinity(0)))


def test_describe_counts_in_words() -> None:
    assert ", 1 core, " in machine.describe(1)
    assert ", 2 cores, " in machine.describe(2)
