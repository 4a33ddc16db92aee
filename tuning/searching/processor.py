"""What a processor's cores are made of, as far as schedules depend on it: vectors, registers, cores.

A target names a processor; LLVM knows its features, and a feature says how wide the vectors are and how many
registers hold them. The widest row that the processor has wins.
"""

from dataclasses import dataclass, replace

import tvm

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Processor:
    """A processor's vectors and cores.

    Attributes
    ----------
    lanes : int
        Elements of a vector: 32-bit floats, unless `of_size` says otherwise.
    registers : int
        Vector registers of a core.
    cores : int
        Cores the code may use.
    """

    lanes: int
    registers: int
    cores: int

    def of_size(self, size: int) -> "Processor":
        """Return the same processor, whose vectors hold elements of so many bytes instead of floats."""
        return replace(self, lanes=self.lanes * _FLOAT_BYTES // size)


@dataclass(frozen=True)
class _Vectors:
    architectures: tuple[str, ...]
    feature: str
    bytes: int
    registers: int


_X86 = ("x86_64", "amd64", "i386", "i686")
_ARM = ("aarch64", "arm64")
_ARM_32 = ("arm",)

_VECTORS = (
    _Vectors(_X86, "avx512f", 64, 32),
    _Vectors(_X86, "avx", 32, 16),
    _Vectors(_X86, "", 16, 16),
    _Vectors(_ARM, "", 16, 32),
    _Vectors(_ARM_32, "neon", 16, 16),
)
_UNKNOWN = _Vectors((), "", 16, 16)


def processor_of(target: tvm.target.Target) -> Processor:
    """Return what is known of a target's processor; one that is not in the table has 16-byte vectors."""
    fields = dict(target.export())
    architecture = str(fields.get("mtriple", "")).partition("-")[0]
    features = {str(name) for name in tvm.get_global_func("target.llvm_get_cpu_features")(target)}
    row = next((row for row in _VECTORS if _has(row, architecture, features)), _UNKNOWN)
    return Processor(row.bytes // _FLOAT_BYTES, row.registers, int(fields.get("num-cores", 1)))


def _has(row: _Vectors, architecture: str, features: set[str]) -> bool:
    named = any(architecture == name or architecture.startswith(f"{name}v") for name in row.architectures)
    return named and (not row.feature or row.feature in features)
