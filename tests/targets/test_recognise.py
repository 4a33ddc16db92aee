"""Devices are recognised from what their kernels tell: the well-known fields of real /proc/cpuinfo texts."""

import os
from dataclasses import replace

import pytest

import targets
from targets import DeviceTraits, machine, recognise
from targets.llvm import cpus
from targets.recognise import machine_of

V8 = "fp asimd evtstrm crc32 cpuid"
V8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CARMEL = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm dcpop"
V7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
V7_A9 = "half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpd32"


def cpuinfo(parts: list[int], features: str, *, implementer: int = 0x41, tail: str = "") -> str:
    """Write /proc/cpuinfo as Linux for ARM does."""
    blocks = [
        f"processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
        f"CPU implementer\t: {implementer:#x}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {part:#05x}\nCPU revision\t: 3\n"
        for number, part in enumerate(parts)
    ]
    return "\n".join(blocks) + tail


PI_4 = cpuinfo(
    [0xD08] * 4,
    V8,
    tail="\nHardware\t: BCM2835\nRevision\t: c03111\nSerial\t\t: 10000000abcdef01\n"
    "Model\t\t: Raspberry Pi 4 Model B Rev 1.1\n",
)


def traits(text: str, machine: str = "aarch64", *, system: str = "Linux", cores: int = 0, model: str = ""):
    return DeviceTraits.from_cpuinfo(
        text,
        system=system,
        machine=machine,
        cores=cores or text.count("processor"),
        model=model,
    )


def test_traits_of_a_raspberry_pi_4() -> None:
    assert traits(PI_4) == DeviceTraits(
        system="Linux",
        machine="aarch64",
        cores=4,
        model="Raspberry Pi 4 Model B Rev 1.1",
        parts=("0x41:0xd08",) * 4,
        features=tuple(V8.split()),
    )


@pytest.mark.parametrize(
    ("text", "model", "name", "cores"),
    [
        (PI_4, "", "raspberry-pi-4", 4),
        (
            cpuinfo([0xD03] * 4, V8, tail="\nModel\t: Raspberry Pi 3 Model B Plus Rev 1.3\n"),
            "",
            "raspberry-pi-3",
            4,
        ),
        (
            cpuinfo([0xD0B] * 4, V8_2, tail="\nModel\t: Raspberry Pi 5 Model B Rev 1.0\n"),
            "",
            "raspberry-pi-5",
            4,
        ),
        (cpuinfo([0xD03] * 4, V8, tail="\nModel\t: Raspberry Pi Zero 2 W Rev 1.0\n"), "", "cortex-a53", 4),
        (cpuinfo([0xD07] * 4, V8), "NVIDIA Jetson Nano Developer Kit", "jetson-nano", 4),
        (
            cpuinfo([0x004] * 6, CARMEL, implementer=0x4E),
            "NVIDIA Jetson Xavier NX Developer Kit",
            "jetson-xavier-nx",
            6,
        ),
        (cpuinfo([0xD42] * 6, V8_2), "NVIDIA Jetson Orin Nano Developer Kit", "jetson-orin-nano", 6),
        (cpuinfo([0xD03] * 4 + [0xD08] * 2, V8), "Radxa ROCK Pi 4B rockchip,rk3399", "rk3399", 2),
        (cpuinfo([0xD03] * 4 + [0xD08] * 2, V8), "FriendlyElec NanoPC-T4", "cortex-a72", 2),
        (cpuinfo([0xD05] * 4 + [0xD0B] * 4, V8_2), "Radxa ROCK 5B rockchip,rk3588", "rk3588", 4),
        (cpuinfo([0xD05] * 4 + [0xD0B] * 4, V8_2), "Orange Pi 5", "cortex-a76", 4),
    ],
)
def test_64_bit_boards(text: str, model: str, name: str, cores: int) -> None:
    found = recognise(traits(text, model=model))
    assert (found.name, found.threads) == (name, cores)
    assert replace(found, cores=None) == replace(targets.find(name), cores=None)


@pytest.mark.parametrize(
    ("parts", "features", "name", "cores"),
    [
        ([0xC07] * 4, V7, "cortex-a7", 4),
        ([0xC09] * 2, V7_A9, "cortex-a9", 2),
        ([0xC07] * 4 + [0xC0F] * 4, V7, "cortex-a15", 4),
    ],
)
def test_32_bit_boards(parts: list[int], features: str, name: str, cores: int) -> None:
    found = recognise(traits(cpuinfo(parts, features), "armv7l"))
    assert found == replace(targets.find(name), cores=cores)


def test_a_32_bit_system_on_a_64_bit_board() -> None:
    found = recognise(traits(PI_4.replace(V8, V7), "armv7l"))
    assert (found.name, found.triple) == ("armv7-cortex-a72", targets.find("armv7").triple)
    assert found.cpu in cpus(found.triple)


@pytest.mark.parametrize(
    ("machine", "base"),
    [("aarch64", "android-arm64"), ("armv8l", "android-armv7"), ("armv7l", "android-armv7")],
)
def test_a_phone(machine: str, base: str) -> None:
    text = cpuinfo([0xD05] * 6 + [0xD0D] * 2, V8_2 if machine == "aarch64" else V7)
    found = recognise(traits(text, machine, system="Android"))
    assert (found.name, found.cpu, found.cores) == (f"{base}-cortex-a77", "cortex-a77", 2)
    assert (found.triple, found.compiler) == (targets.find(base).triple, targets.find(base).compiler)
    assert ("dotprod" in found.features) is (machine == "aarch64")
    assert found.cpu in cpus(found.triple)


def test_a_core_that_the_table_lacks() -> None:
    found = recognise(traits(cpuinfo([0xD0A] * 4, V8_2)))
    assert (found.name, found.cpu) == ("aarch64-cortex-a75", "cortex-a75")
    assert found.features == ("neon", "dotprod", "fullfp16")


def test_a_core_that_nobody_knows_is_of_its_architecture() -> None:
    found = recognise(traits(cpuinfo([0xFFF] * 8, V8_2)))
    assert (found.name, found.cpu, found.cores) == ("aarch64", "generic", 8)
    assert found.features == ("neon", "dotprod", "fullfp16")


def test_a_kernel_that_denies_a_feature_is_believed() -> None:
    """A virtual machine may hide what its processor has."""
    found = recognise(traits(cpuinfo([0xD0B] * 4, V8, tail="\nModel\t: Raspberry Pi 5 Model B\n")))
    assert (found.name, found.cpu, found.features) == ("aarch64", "generic", ("neon",))


def test_a_server_that_uses_fewer_cores() -> None:
    assert recognise(traits(PI_4, cores=2)).threads == 2


def test_an_emulator_tells_nothing_of_cores() -> None:
    """In QEMU's user mode /proc/cpuinfo is that of the machine outside."""
    text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9B45\nflags\t\t: fpu sse2\n"
    found = recognise(traits(text, cores=2))
    assert (found.name, found.cores, found.features) == ("aarch64", 2, ("neon",))


def test_this_machine() -> None:
    here = DeviceTraits("Linux", os.uname().machine, 1, model=machine.cpu_model())
    if here.machine == "x86_64":
        assert recognise(here) == targets.find("host")


@pytest.mark.parametrize(
    ("device", "told"),
    [
        (traits(cpuinfo([0xB76], "half thumb fastmult vfp edsp java tls"), "armv6l"), "Linux armv6l"),
        (traits(cpuinfo([0xC09] * 2, "half thumb vfp vfpv3d16"), "armv7l"), "has no NEON"),
        (DeviceTraits("Linux", "riscv64", 4), "unknown model, Linux riscv64"),
        (DeviceTraits("Linux", "x86_64", 64, model="Another Processor"), "Another Processor"),
    ],
)
def test_what_cannot_be_built_for_is_refused_in_one_line(device: DeviceTraits, told: str) -> None:
    with pytest.raises(targets.TargetError, match=told) as refused:
        recognise(device)
    assert "\n" not in str(refused.value)


def test_parts_that_are_none_are_passed_over() -> None:
    assert recognise(DeviceTraits("Linux", "aarch64", 4, parts=("", "x:y", "0x41", "::"))).name == "aarch64"


@pytest.mark.parametrize("implementer", [0x41, 0x4E])
@pytest.mark.parametrize(("machine", "first"), [("aarch64", 0xD00), ("armv7l", 0xC00), ("armv8l", 0xC00)])
def test_every_core_that_is_recognised_is_known_to_llvm(machine: str, first: int, implementer: int) -> None:
    for part in (0x004, *range(first, 0xE00)):
        row = recognise(DeviceTraits("Linux", machine, 1, parts=(f"{implementer:#x}:{part:#x}",)))
        assert row.cpu in cpus(row.triple)


@pytest.mark.parametrize(
    ("kernel", "address_bytes", "machine"),
    [
        ("aarch64", 8, "aarch64"),
        ("aarch64", 4, "armv8l"),
        ("armv7l", 4, "armv7l"),
        ("x86_64", 4, "x86_64"),
    ],
)
def test_32_bit_programs_on_a_64_bit_kernel_are_told(kernel: str, address_bytes: int, machine: str) -> None:
    """The kernel of a 32-bit Raspberry Pi OS calls itself aarch64, whoever asks."""
    assert machine_of(kernel, address_bytes) == machine


@pytest.mark.parametrize(
    ("text", "model", "name", "cpu"),
    [
        (cpuinfo([0x004] * 6, CARMEL, implementer=0x4E), "NVIDIA Jetson Xavier NX", "armv7", "generic"),
        (cpuinfo([0x004] * 6, V7, implementer=0x4E), "NVIDIA Jetson Xavier NX", "armv7", "generic"),
        (PI_4, "", "armv7-cortex-a72", "cortex-a72"),
        (cpuinfo([0xD05] * 4 + [0xD0B] * 4, V8_2), "Orange Pi 5", "armv7-cortex-a76", "cortex-a76"),
    ],
)
def test_32_bit_programs_on_a_64_bit_core_get_a_32_bit_target(
    text: str, model: str, name: str, cpu: str
) -> None:
    found = recognise(traits(text, "armv8l", model=model))
    assert (found.name, found.cpu) == (name, cpu)
    assert found.triple == targets.find("armv7").triple
    assert found.cpu in cpus(found.triple)
