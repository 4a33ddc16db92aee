"""What an ELF file's header says of the machine it is for, against what a target's triple asks for.

A linker of the wrong machine, or one that wraps another, gives a file that the device refuses to load with
words that name neither. The first twenty bytes tell it before anything is sent.

Layout of the header: System V ABI, chapter 4; numbers of the machines: <elf.h>.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from targets.errors import TargetError

_MAGIC = b"\x7fELF"
_CLASSES = {1: 32, 2: 64}
_ORDERS = {1: "little", 2: "big"}
_SHARED_LIBRARY = 3


@dataclass(frozen=True)
class Machine:
    """A machine as ELF knows it: EM_* number, word size in bits, byte order."""

    number: int
    bits: int
    order: str = "little"

    def __str__(self) -> str:
        name = _NAMES.get(self.number, f"machine number {self.number}")
        return f"{name}, {self.bits} bits, {self.order}-endian"


_NAMES = {3: "x86", 21: "PowerPC", 22: "S/390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V"}

# What triples begin with; the first that fits counts.
_MACHINES = {
    "x86_64": Machine(62, 64),
    "amd64": Machine(62, 64),
    "i386": Machine(3, 32),
    "i486": Machine(3, 32),
    "i586": Machine(3, 32),
    "i686": Machine(3, 32),
    "aarch64_be": Machine(183, 64, "big"),
    "aarch64": Machine(183, 64),
    "arm64": Machine(183, 64),
    "armeb": Machine(40, 32, "big"),
    "arm": Machine(40, 32),
    "thumb": Machine(40, 32),
    "riscv32": Machine(243, 32),
    "riscv64": Machine(243, 64),
    "powerpc64le": Machine(21, 64),
    "ppc64le": Machine(21, 64),
    "s390x": Machine(22, 64, "big"),
}


def machine_of_triple(triple: str) -> Machine:
    """Return the machine that an LLVM target triple asks for.

    Raises
    ------
    TargetError
        If the triple's architecture is not in the table.
    """
    for prefix, machine in _MACHINES.items():
        if triple.startswith(prefix):
            return machine
    raise TargetError(
        f"the architecture of the triple {triple!r} is not known: known are {', '.join(_MACHINES)}"
    )


def machine_of_library(path: Path) -> Machine:
    """Return the machine that a shared library is for.

    Raises
    ------
    TargetError
        If the file is no ELF shared library.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != _MAGIC or header[4] not in _CLASSES or header[5] not in _ORDERS:
        raise TargetError(f"{path.name} is not an ELF file")
    bits, order = _CLASSES[header[4]], _ORDERS[header[5]]
    kind, number = struct.unpack("<HH" if order == "little" else ">HH", header[16:20])
    if kind != _SHARED_LIBRARY:
        raise TargetError(f"{path.name} is not a shared library")
    return Machine(number, bits, order)


def check_library(path: Path, triple: str) -> None:
    """Check that a shared library is for the machine of a triple.

    Raises
    ------
    TargetError
        If it is for another one, or no shared library at all.
    """
    found, wanted = machine_of_library(path), machine_of_triple(triple)
    if found != wanted:
        raise TargetError(f"the library is for {found}, and not for {wanted}")
