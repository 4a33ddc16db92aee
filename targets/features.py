"""Features of a processor: those that its kernel tells, against those that a target's code may use.

Kernels tell features by names of their own, in the line ``Features`` of /proc/cpuinfo: Linux,
Documentation/arch/arm64/elf_hwcaps.rst and arch/arm/include/uapi/asm/hwcap.h. A 32-bit program on a 64-bit
kernel reads the names of the 64-bit one, whose vectors have all that 32-bit ones may have.
"""

from targets import llvm
from targets.errors import TargetError
from targets.info import TargetInfo
from targets.recognise import DeviceTraits, recognise
from targets.table import ROWS

# LLVM's names of what a network's code may use, most telling first.
_USED = (
    "dotprod",
    "fullfp16",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "rdm",
    "neon",
    "vfp4",
    "hwdiv-arm",
    "hwdiv",
    "d32",
)

# The kernel's names, and LLVM's of what each says that there is.
_TOLD = {
    "asimd": ("neon", "d32", "vfp4", "hwdiv-arm", "hwdiv"),
    "asimddp": ("dotprod",),
    "asimdhp": ("fullfp16",),
    "asimdrdm": ("rdm",),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "sve": ("sve",),
    "sve2": ("sve2",),
    "neon": ("neon", "d32"),
    "vfpv4": ("vfp4",),
    "idiva": ("hwdiv-arm",),
    "idivt": ("hwdiv",),
}


def missing_features(info: TargetInfo, traits: DeviceTraits) -> tuple[str, ...]:
    """Return LLVM's names of the features that a target's code may use and the device lacks.

    Empty if the device tells of no features. This asks LLVM, which imports TVM.
    """
    if not traits.features:
        return ()
    there = {name for told in traits.features for name in _TOLD.get(told, ())}
    used = llvm.features(info.triple, info.processor) | set(info.features)
    return tuple(name for name in _USED if name in used and name not in there)


def fitting(traits: DeviceTraits) -> str | None:
    """Return the name of the target in the table that fits a device best; None if none does."""
    try:
        info = recognise(traits)
    except TargetError:
        return None
    if info.name in ROWS:
        return info.name
    return next(row.name for row in ROWS.values() if row.cpu == "generic" and row.triple == info.triple)
