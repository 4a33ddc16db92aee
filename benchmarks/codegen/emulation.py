"""Runs compiled kernels under qemu and counts each instruction that they execute.

A kernel is linked with a small program that calls it (`call_kernel.c`), statically and at fixed addresses, so
that what a plug-in of qemu counts (`block_counter.c`) can be looked up in the disassembly. The counts are
exact, and say nothing of time.
"""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm_ffi

from codegen.instructions import Instruction, read_disassembly

_HERE = Path(__file__).parent
_BYTES = 4
_SECONDS = 600
_PACKAGES = {
    "cc": "gcc",
    "qemu-aarch64": "qemu-user",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-nm": "binutils-aarch64-linux-gnu",
    "aarch64-linux-gnu-objdump": "binutils-aarch64-linux-gnu",
}


class EmulationError(RuntimeError):
    """A kernel could not be linked or run; the message is one line."""


@dataclass(frozen=True)
class Program:
    """A linked program and the functions of it that are looked at.

    Attributes
    ----------
    path : Path
    code : list of Instruction
        Of these functions.
    """

    path: Path
    code: list[Instruction]


@dataclass(frozen=True)
class Executed:
    """What a program executed.

    Attributes
    ----------
    runs : Counter of int
        How often the instruction at an address ran.
    """

    runs: Counter[int]

    @property
    def instructions(self) -> int:
        """All that were executed."""
        return self.runs.total()


def missing() -> str | None:
    """Say which of Debian's packages are missing, or None."""
    absent = {package: None for tool, package in _PACKAGES.items() if shutil.which(tool) is None}
    return f"apt-get install {' '.join(absent)}" if absent else None


def link(kernel: Path, program: Path) -> Program:
    """Link an object file that TVM wrote with the program that calls it.

    Raises
    ------
    EmulationError
        If it does not link.
    """
    includes = [f"-I{tvm_ffi.libinfo.find_include_path()}", f"-I{tvm_ffi.libinfo.find_dlpack_include_path()}"]
    return link_sources([_HERE / "call_kernel.c", kernel], program, kernel, includes)


def link_sources(
    sources: Sequence[Path], program: Path, looked_at: Path, options: Sequence[str] = ()
) -> Program:
    """Compile and link a program for AArch64; ``looked_at`` is the object file whose functions are read.

    Raises
    ------
    EmulationError
        If it does not link.
    """
    fixed = ["-O2", "-static", "-no-pie", "-Wl,--no-relax"]
    _run(["aarch64-linux-gnu-gcc", *fixed, *options, "-o", program, *sources])
    symbols = [
        line.split() for line in _run(["aarch64-linux-gnu-nm", "--defined-only", looked_at]).splitlines()
    ]
    functions = [name for _, kind, name in symbols if kind in "tT"]
    return Program(program, read_disassembly(_run(["aarch64-linux-gnu-objdump", "-d", program]), functions))


class Emulator:
    """qemu with the counting plug-in, built into a folder.

    Parameters
    ----------
    folder : Path
        Where the plug-in and its counts go.
    cpu : str
        The processor, by qemu's name; an instruction that it lacks ends the program.
    """

    def __init__(self, folder: Path, cpu: str) -> None:
        self._counts = folder.resolve() / "counts.txt"
        self._plugin = folder.resolve() / "block_counter.so"
        self._cpu = cpu
        self._version = _run(["qemu-aarch64", "--version"]).splitlines()[0]
        version = f"-DAPI_VERSION={_api_version(self._version)}"
        _run(["cc", "-shared", "-fPIC", "-O2", version, "-o", self._plugin, _HERE / "block_counter.c"])

    @property
    def measured_on(self) -> str:
        """qemu's version and the processor, in words."""
        return f"{self._version}, -cpu {self._cpu}"

    def run(self, program: Path, arguments: Sequence[str] = ()) -> Executed:
        """Run a program and count what it executes.

        Raises
        ------
        EmulationError
            If it fails, or takes longer than ten minutes.
        """
        self._counts.unlink(missing_ok=True)
        plugin = ",out=".join(str(path).replace(",", ",,") for path in (self._plugin, self._counts))
        _run(["qemu-aarch64", "-cpu", self._cpu, "-plugin", plugin, program, *arguments])
        runs: Counter[int] = Counter()
        for line in self._counts.read_text().splitlines():
            address, instructions, times = map(int, line.split())
            for at in range(instructions):
                runs[address + at * _BYTES] += times
        return Executed(runs)


def _api_version(line: str) -> int:
    """Return the version of the plug-in interface from qemu's own; qemu 9 refuses the first."""
    major = re.search(r"version (\d+)", line)
    return 2 if major and int(major.group(1)) >= 9 else 1


def _run(command: Sequence[str | Path]) -> str:
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise EmulationError(f"{words[0]} took longer than {_SECONDS} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise EmulationError(f"{words[0]}: {said[0]}")
    return done.stdout
