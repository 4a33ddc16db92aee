"""Which target a device is, from what it says of itself.

The kernel tells each core's implementer and part number and the features that programs may use. A board is
known by the model in its device tree. What is known of the board goes first, then its fastest core, then its
architecture.

Part numbers: MIDR_EL1 in the cores' technical reference manuals; Linux, arch/arm64/include/asm/cputype.h.
"""

import json
import platform
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from targets import machine as this
from targets.errors import TargetError
from targets.info import TargetInfo
from targets.table import ROWS

_TREE = Path("/proc/device-tree")
_ARMV8_IN_32_BITS = "armv8l"
_ARM, _NVIDIA = 0x41, 0x4E

# From slow to fast: of a device with several kinds of cores, the last one counts.
_CORES = {
    (_ARM, 0xC07): "cortex-a7",
    (_ARM, 0xC09): "cortex-a9",
    (_ARM, 0xC0F): "cortex-a15",
    (_ARM, 0xD03): "cortex-a53",
    (_ARM, 0xD05): "cortex-a55",
    (_ARM, 0xD07): "cortex-a57",
    (_ARM, 0xD08): "cortex-a72",
    (_ARM, 0xD09): "cortex-a73",
    (_ARM, 0xD0A): "cortex-a75",
    (_NVIDIA, 0x004): "carmel",
    (_ARM, 0xD0B): "cortex-a76",
    (_ARM, 0xD0D): "cortex-a77",
    (_ARM, 0xD41): "cortex-a78",
    (_ARM, 0xD42): "cortex-a78ae",
    (_ARM, 0xD4B): "cortex-a78c",
}

# Cores that LLVM knows for 64-bit programs alone.
_ONLY_64_BITS = frozenset({"carmel"})

# What the models of boards begin with or hold, and the rows of the table.
_BOARDS = {
    "raspberry pi 3": "raspberry-pi-3",
    "raspberry pi compute module 3": "raspberry-pi-3",
    "raspberry pi 4": "raspberry-pi-4",
    "raspberry pi 400": "raspberry-pi-4",
    "raspberry pi compute module 4": "raspberry-pi-4",
    "raspberry pi 5": "raspberry-pi-5",
    "raspberry pi compute module 5": "raspberry-pi-5",
    "jetson nano": "jetson-nano",
    "jetson xavier nx": "jetson-xavier-nx",
    "jetson orin nano": "jetson-orin-nano",
    "rk3399": "rk3399",
    "rk3588": "rk3588",
}

# The kernel's names of features on AArch64, and LLVM's.
_FEATURES = {"asimd": "neon", "asimddp": "dotprod", "asimdhp": "fullfp16"}
_VECTORS = {"neon", "asimd"}
_AARCH64 = ("aarch64", "arm64")
_ARMV7 = ("armv7l", _ARMV8_IN_32_BITS)
_MODEL_KEYS = ("Model", "Hardware", "model name")


@dataclass(frozen=True)
class DeviceTraits:
    """What tells one kind of device from another.

    Attributes
    ----------
    system, machine : str
        As ``uname`` tells them, such as ``Linux`` and ``aarch64``; ``Android`` for the system of a phone, and
        ``armv8l`` for 32-bit programs on a 64-bit kernel.
    cores : int
        Cores that its server may use.
    model : str
        The board's model from its device tree, and what it is compatible with if that is known.
    parts : tuple of str
        Implementer and part number of each core, such as ``0x41:0xd08``.
    features : tuple of str
        What the kernel says that programs may use, such as ``asimddp``.
    """

    system: str
    machine: str
    cores: int
    model: str = ""
    parts: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @classmethod
    def of_this_machine(cls) -> Self:
        """Describe the machine that this process runs on."""
        names = platform.uname()
        return cls.from_cpuinfo(
            _read(Path("/proc/cpuinfo")),
            system=names.system,
            machine=machine_of(names.machine, struct.calcsize("P")),
            cores=this.core_count(),
            model=" ".join(_strings(_TREE / name) for name in ("model", "compatible")),
        )

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what `to_json` wrote, or a board's server; None if it is something else."""
        try:
            fields = json.loads(text)
            lists = {name: tuple(fields[name]) for name in ("parts", "features")}
            return cls(**fields | lists)
        except (ValueError, TypeError, KeyError):
            return None

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_cpuinfo(cls, text: str, *, system: str, machine: str, cores: int, model: str = "") -> Self:
        """Take model, parts and features from the text of ``/proc/cpuinfo``.

        A model that is given goes before the one in the text.
        """
        lines = [line.partition(":") for line in text.splitlines()]
        fields = [(key.strip(), value.strip()) for key, _, value in lines]
        first = dict(reversed(fields))
        implementers = [value for key, value in fields if key == "CPU implementer"]
        parts = [value for key, value in fields if key == "CPU part"]
        return cls(
            system=system,
            machine=machine,
            cores=cores,
            model=model.strip() or next((first[key] for key in _MODEL_KEYS if first.get(key)), ""),
            parts=tuple(map(":".join, zip(implementers, parts, strict=False))),
            features=tuple(first.get("Features", "").split()),
        )


def machine_of(kernel: str, address_bytes: int) -> str:
    """Return the machine that programs run on whose addresses are so long, on a kernel of a machine."""
    return _ARMV8_IN_32_BITS if kernel in _AARCH64 and address_bytes == 4 else kernel


def recognise(traits: DeviceTraits) -> TargetInfo:
    """Return the target that a device is.

    It is a row of the table where one fits. Of a processor that the table lacks, or that lacks what its row
    promises, it is the row of the architecture with the processor and the features that are there.

    Raises
    ------
    TargetError
        If code for the device cannot be made, or it cannot be told which; the message says what to do.
    """
    if traits.machine in _AARCH64:
        return _arm(traits, "android-arm64" if _is_android(traits) else "aarch64")
    if traits.machine in _ARMV7:
        if traits.features and _VECTORS.isdisjoint(traits.features):
            raise TargetError(f"the device ({_in_words(traits)}) has no NEON, which code for armv7 needs")
        return _arm(traits, "android-armv7" if _is_android(traits) else "armv7")
    if traits.machine == platform.machine() and traits.model == this.cpu_model():
        return ROWS["host"]
    raise TargetError(
        f"no target in the table is for the device ({_in_words(traits)}): name one with --target, "
        "which may be a TOML file"
    )


def _arm(traits: DeviceTraits, architecture: str) -> TargetInfo:
    base = ROWS[architecture]
    row = _board(traits, base) or _core(traits, base)
    if row is None or not _has(traits, row):
        return replace(base, cores=traits.cores, features=_features(traits, base))
    return row


def _board(traits: DeviceTraits, base: TargetInfo) -> TargetInfo | None:
    """Return the row of the board that the model names; None if its system is of another kind."""
    name = next((name for words, name in _BOARDS.items() if words in traits.model.lower()), None)
    if name is None or ROWS[name].triple != base.triple:
        return None
    row = ROWS[name]
    return replace(row, cores=min(row.threads, traits.cores))


def _core(traits: DeviceTraits, base: TargetInfo) -> TargetInfo | None:
    """Return the target of the fastest kind of core; None if no core is known."""
    speeds = {core: speed for speed, core in enumerate(_CORES.values())}
    cores = [core for core in map(_name_of, traits.parts) if core]
    if not cores or (traits.machine in _ARMV7 and not _ONLY_64_BITS.isdisjoint(cores)):
        return None
    fastest = max(cores, key=speeds.__getitem__)
    number = min(cores.count(fastest), traits.cores)
    if fastest in ROWS and ROWS[fastest].triple == base.triple:
        return replace(ROWS[fastest], cores=number)
    features = _features(traits, base)
    return replace(base, name=f"{base.name}-{fastest}", cpu=fastest, cores=number, features=features)


def _name_of(part: str) -> str | None:
    implementer, _, number = part.partition(":")
    try:
        return _CORES.get((int(implementer, 16), int(number, 16)))
    except ValueError:
        return None


def _strings(path: Path) -> str:
    return _read(path).replace("\0", " ").strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _has(traits: DeviceTraits, row: TargetInfo) -> bool:
    """Tell whether the device has the features of a row; one that tells none is believed to."""
    return not traits.features or set(row.features) <= set(_features(traits, row))


def _features(traits: DeviceTraits, base: TargetInfo) -> tuple[str, ...]:
    """Return LLVM's names of the features that the kernel tells; those of ``base`` if it tells none."""
    if traits.machine in _ARMV7 or not traits.features:
        return base.features
    return tuple(name for told, name in _FEATURES.items() if told in traits.features)


def _is_android(traits: DeviceTraits) -> bool:
    return traits.system.lower() == "android"


def _in_words(traits: DeviceTraits) -> str:
    return f"{traits.model or 'unknown model'}, {traits.system} {traits.machine}"
