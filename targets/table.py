"""The table of targets. A new board is a new row.

Features are those of the core that matter to a network's code, by LLVM's names: `neon` (vectors), `dotprod`
(dot products of int8), `fullfp16` (arithmetic in float16). LLVM's own table of cores says the same.

A board with two kinds of cores runs on its fast cluster, whose number is in the column of cores.

A GPU is driven by a processor. `GPU+HOST` names both; the name of a GPU alone is that GPU with any 64-bit ARM
Linux device, and `opencl` is any OpenCL device of this machine.
"""

import difflib
from dataclasses import replace
from pathlib import Path

from targets import boards, llvm
from targets.errors import TargetError
from targets.gpu import Gpu
from targets.gpus import GENERIC, GPUS, refuse_textures
from targets.info import OWN_CPU, TargetInfo, Verified
from targets.toolchains import ARM64_ANDROID, ARM64_LINUX, ARMV7_ANDROID, ARMV7_LINUX, HOST, Toolchain

PLUS = "+"
"""What stands between the name of a GPU and that of its host."""

_NEON = ("neon",)
_V8_2 = ("neon", "dotprod", "fullfp16")
_TYPICAL_CORES = 4
_NO_OPENCL = "VideoCore, no OpenCL"
_CUDA_ONLY = "NVIDIA, no OpenCL"
_TRIED = {
    ARM64_LINUX: Verified.EMULATED,
    ARMV7_LINUX: Verified.EMULATED,
    ARM64_ANDROID: Verified.COMPILED,
    ARMV7_ANDROID: Verified.COMPILED,
}


def _row(
    toolchain: Toolchain,
    name: str,
    description: str,
    cpu: str,
    features: tuple[str, ...],
    cores: int = _TYPICAL_CORES,
    clusters: str = "",
    graphics: str = "",
) -> TargetInfo:
    return TargetInfo(
        name=name,
        description=description,
        triple=toolchain.triple,
        cpu=cpu,
        cores=cores,
        device=description,
        compiler=toolchain.compiler,
        compiler_package=toolchain.package,
        features=features,
        clusters=clusters,
        graphics=graphics,
        family=toolchain.family,
        verified=_TRIED[toolchain],
    )


_HOST = TargetInfo(
    name="host",
    description="this machine's processor, all its cores",
    triple=HOST.triple,
    cpu=OWN_CPU,
    family=HOST.family,
    verified=Verified.HARDWARE,
)

_ARM64_BOARDS = (
    ("raspberry-pi-3", "Raspberry Pi 3", "cortex-a53", _NEON, 4, "4 x Cortex-A53", _NO_OPENCL),
    ("raspberry-pi-4", "Raspberry Pi 4", "cortex-a72", _NEON, 4, "4 x Cortex-A72", _NO_OPENCL),
    ("raspberry-pi-5", "Raspberry Pi 5", "cortex-a76", _V8_2, 4, "4 x Cortex-A76", _NO_OPENCL),
    ("jetson-nano", "Jetson Nano", "cortex-a57", _NEON, 4, "4 x Cortex-A57", _CUDA_ONLY),
    ("jetson-xavier-nx", "Jetson Xavier NX", "carmel", ("neon", "fullfp16"), 6, "6 x Carmel", _CUDA_ONLY),
    ("jetson-orin-nano", "Jetson Orin Nano", "cortex-a78ae", _V8_2, 6, "6 x Cortex-A78AE", _CUDA_ONLY),
    (
        "rk3399",
        "RK3399 board",
        "cortex-a72",
        _NEON,
        2,
        "2 x Cortex-A72 (used), 4 x Cortex-A53",
        "Mali-T860 MP4",
    ),
    (
        "rk3588",
        "RK3588 board",
        "cortex-a76",
        _V8_2,
        4,
        "4 x Cortex-A76 (used), 4 x Cortex-A55",
        "Mali-G610 MP4",
    ),
)
_ARM64_CORES = (
    ("cortex-a53", "Cortex-A53", "cortex-a53", _NEON),
    ("cortex-a55", "Cortex-A55", "cortex-a55", _V8_2),
    ("cortex-a72", "Cortex-A72", "cortex-a72", _NEON),
    ("cortex-a73", "Cortex-A73", "cortex-a73", _NEON),
    ("cortex-a76", "Cortex-A76", "cortex-a76", _V8_2),
    ("cortex-a78", "Cortex-A78", "cortex-a78", _V8_2),
    ("aarch64", "any 64-bit ARM processor", "generic", _NEON),
)
_ARMV7_CORES = (
    ("cortex-a7", "Cortex-A7, hard float", "cortex-a7", _NEON),
    ("cortex-a9", "Cortex-A9 with NEON, hard float", "cortex-a9", _NEON),
    ("cortex-a15", "Cortex-A15, hard float", "cortex-a15", _NEON),
    ("armv7", "any 32-bit ARMv7-A processor with NEON, hard float", "generic", _NEON),
)

_TABLE = (
    _HOST,
    *(_row(ARM64_LINUX, *row) for row in _ARM64_BOARDS),
    *(_row(ARM64_LINUX, *row) for row in _ARM64_CORES),
    *(_row(ARMV7_LINUX, *row) for row in _ARMV7_CORES),
    _row(ARM64_ANDROID, "android-arm64", "Android device of the ABI arm64-v8a", "generic", _NEON),
    _row(ARMV7_ANDROID, "android-armv7", "Android device of the ABI armeabi-v7a", "generic", _NEON),
)


ROWS = {row.name: row for row in _TABLE}
"""The rows of the processors by name, without the targets that the user added."""


def all_targets() -> tuple[TargetInfo, ...]:
    """Return every known target: the processors, the GPUs, then the user's own, in the order of the tables.

    Raises
    ------
    TargetError
        If a file among the user's own is not sound.
    """
    return (*_TABLE, *map(_alone, GPUS.values()), *map(_own, boards.files()))


def find(name: str) -> TargetInfo:
    """Return the target called ``name``, or the one that a file describes if ``name`` ends with ``.toml``.

    ``GPU+HOST`` is the GPU of the target ``GPU`` with the processor of the target ``HOST``; each may be a
    file. A target of the user's own is checked with LLVM, which imports TVM.

    Raises
    ------
    TargetError
        If there is none, the message names what is near or what there is; or if the user's file is not sound.
    """
    if name.endswith(boards.SUFFIX) and (_is_file(name) or PLUS not in name):
        return _checked(_own(Path(name).expanduser()))
    refuse_textures(name)
    if PLUS in name:
        return _driven(*name.split(PLUS, 1))
    if name in ROWS:
        return ROWS[name]
    if name in GPUS:
        return _alone(GPUS[name])
    rows = {row.name: row for row in all_targets()}
    if name in rows:
        return _checked(rows[name])
    raise TargetError(f"unknown target {name!r}: {_advice(name, rows)} `deeprebirth targets` lists all")


def _advice(name: str, rows: dict[str, TargetInfo]) -> str:
    near = difflib.get_close_matches(name, rows, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(key for key in rows if key not in GPUS)} and GPUs such as mali-g76:"


def with_its_gpu(info: TargetInfo) -> str | None:
    """Return the name of the target that runs on a board's GPU, such as ``mali-g610+rk3588``.

    None if the board has no GPU of the table, or is run on it already.
    """
    words = info.graphics.lower().split()
    if info.gpu is not None or not words or words[0] not in GPUS:
        return None
    return f"{words[0]}{PLUS}{info.name}"


def _alone(gpu: Gpu) -> TargetInfo:
    """Return the target of a GPU whose host the user did not name."""
    host = ROWS["host" if gpu is GENERIC else "aarch64"]
    return replace(host.with_gpu(gpu), name=gpu.name, description=gpu.description)


def _driven(gpu: str, host: str) -> TargetInfo:
    """Return the target of a GPU with the processor of another target."""
    graphics, processor = find(gpu), find(host)
    if graphics.gpu is None:
        raise TargetError(f"{gpu} is no GPU: before the + goes one of {', '.join(GPUS)}")
    if processor.gpu is not None:
        raise TargetError(f"{host} is a GPU: after the + goes the processor that drives it, such as host")
    untried = Verified.NOT in (graphics.verified, processor.verified)
    driven = processor.with_gpu(graphics.gpu)
    return replace(driven, verified=Verified.NOT) if untried else driven


def _is_file(name: str) -> bool:
    return Path(name).expanduser().exists()


def _own(path: Path) -> TargetInfo:
    """Read a target of the user's own; its name may not be one of the table's."""
    info = boards.read(path)
    if info.name in ROWS or info.name in GPUS:
        raise TargetError(f"{path}: name: {info.name} is in the table already: choose another name")
    return info


def _checked(info: TargetInfo) -> TargetInfo:
    llvm.check(info)
    return info
