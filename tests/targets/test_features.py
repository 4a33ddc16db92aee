"""What a device lacks of its target, and which target it should get instead."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import targets
from targets import DeviceTraits, fitting, missing_features

V8 = "fp asimd evtstrm crc32 cpuid"
V8_2 = "fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
V7_A9 = "half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpd32"
PARTS = {"cortex-a72": 0xD08, "cortex-a76": 0xD0B, "cortex-a9": 0xC09, "cortex-a15": 0xC0F, "new": 0xFFF}


def device(core: str, features: str, machine: str = "aarch64", model: str = "") -> DeviceTraits:
    return DeviceTraits("Linux", machine, 4, model, (f"0x41:{PARTS[core]:#x}",) * 4, tuple(features.split()))


@pytest.mark.parametrize(
    ("target", "traits", "missing"),
    [
        ("raspberry-pi-5", device("cortex-a72", V8), ("dotprod", "fullfp16", "rdm")),
        ("jetson-xavier-nx", device("cortex-a72", V8), ("fullfp16", "rdm")),
        ("raspberry-pi-4", device("cortex-a72", V8), ()),
        ("raspberry-pi-4", device("cortex-a76", V8_2), ()),
        ("raspberry-pi-5", device("cortex-a76", V8_2), ()),
        ("mali-g610+rk3588", device("cortex-a72", V8), ("dotprod", "fullfp16", "rdm")),
        ("cortex-a15", device("cortex-a9", V7_A9, "armv7l"), ("vfp4", "hwdiv-arm", "hwdiv")),
        ("cortex-a9", device("cortex-a9", V7_A9, "armv7l"), ()),
        ("cortex-a15", device("cortex-a15", V7, "armv7l"), ()),
        ("armv7", device("cortex-a9", "half thumb vfp vfpv3", "armv7l"), ("neon", "d32")),
        ("cortex-a15", device("cortex-a72", V8, "armv8l"), ()),
        ("raspberry-pi-5", device("cortex-a72", ""), ()),
    ],
)
def test_what_the_device_lacks(target: str, traits: DeviceTraits, missing: tuple[str, ...]) -> None:
    assert missing_features(targets.find(target), traits) == missing


@pytest.mark.parametrize(
    "row", [row for row in targets.all_targets() if row.gpu is None], ids=lambda row: row.name
)
def test_no_code_of_the_table_lacks_what_a_new_core_has(row: targets.TargetInfo) -> None:
    told = V7 if row.triple.startswith("arm") else V8_2
    assert not {"neon", "dotprod", "vfp4"} & set(
        missing_features(row, device("new", f"{told} asimddp asimdhp"))
    )


@pytest.mark.parametrize(
    ("traits", "name"),
    [
        (device("cortex-a72", V8, model="Raspberry Pi 4 Model B Rev 1.4"), "raspberry-pi-4"),
        (device("cortex-a72", V8), "cortex-a72"),
        (device("cortex-a76", V8), "aarch64"),
        (device("new", V8_2), "aarch64"),
        (device("cortex-a9", V7_A9, "armv7l"), "cortex-a9"),
        (device("cortex-a72", V8, "armv8l"), "armv7"),
        (DeviceTraits("Android", "aarch64", 8), "android-arm64"),
        (DeviceTraits("Android", "armv8l", 8), "android-armv7"),
        (device("new", "half thumb vfp", "armv7l"), None),
        (DeviceTraits("Linux", "riscv64", 4), None),
    ],
)
def test_which_target_fits(traits: DeviceTraits, name: str | None) -> None:
    assert fitting(traits) == name
    if name is not None:
        assert missing_features(targets.find(name), traits) == ()


def test_this_machine_lacks_nothing_of_its_own_target() -> None:
    here = DeviceTraits.of_this_machine()
    name = fitting(here)
    assert name is not None
    assert missing_features(targets.find(name), here) == ()
    if os.uname().machine == "x86_64":
        assert name == "host"


def test_a_processor_without_the_instruction_ends_the_code_and_the_feature_is_named(tmp_path: Path) -> None:
    """The real thing: a dot product on a Cortex-A72, which QEMU ends with SIGILL."""
    board = targets.find("raspberry-pi-5")
    for program, package in (("qemu-aarch64", "qemu-user"), (board.compiler, board.compiler_package)):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here: install {package}")
    source, program = tmp_path / "dot.cpp", tmp_path / "Punkt für Punkt"
    source.write_text(
        "#include <arm_neon.h>\nint main(int n, char**) {\n"
        "  return vgetq_lane_s32(vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(n), vdupq_n_s8(1)), 0) - 4;\n}\n"
    )
    compile_it = [board.require_compiler(), "-static", "-mcpu=cortex-a76", str(source), "-o", str(program)]
    subprocess.run(compile_it, check=True, timeout=120)
    ended = [
        subprocess.run(
            ["qemu-aarch64", "-cpu", core, str(program)], capture_output=True, timeout=60
        ).returncode
        for core in ("cortex-a76", "cortex-a72")
    ]
    assert ended == [0, -4]
    assert "dotprod" in missing_features(board, device("cortex-a72", V8))
