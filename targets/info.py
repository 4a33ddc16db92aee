"""One thing to build for, and the error every question about it can raise."""

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from targets import machine

if TYPE_CHECKING:
    import tvm


class TargetError(ValueError):
    """A target that is not known or cannot be built for here; the message is one line."""


@dataclass(frozen=True)
class TargetInfo:
    """A row of the table of targets.

    Attributes
    ----------
    name, description : str
        What the user calls it, and what it is.
    triple, cpu : str
        LLVM's target triple and processor name; ``native`` is this machine's own processor.
    cores : int or None
        Cores of the device; None means those this process may use on this machine.
    device : str
        The device in words; empty means this machine.
    compiler, compiler_package : str
        The C++ compiler that links libraries for it, and the package that brings it.
    emulated : bool
        Whether code for it runs in an emulator here, so that its times say nothing.
    device_type : str
        TVM's name of the device the code runs on.
    """

    name: str
    description: str
    triple: str
    cpu: str
    cores: int | None = None
    device: str = ""
    compiler: str = "g++"
    compiler_package: str = "g++"
    emulated: bool = False
    device_type: str = "cpu"

    @cached_property
    def threads(self) -> int:
        """The number of cores the code may use."""
        return self.cores or machine.core_count()

    def with_threads(self, threads: int | None) -> "TargetInfo":
        """Return this target with code for so many threads; None leaves it as it is."""
        return self if threads is None else replace(self, cores=threads)

    def target(self) -> "tvm.target.Target":
        """Return TVM's target: LLVM for the processor, with its real number of cores."""
        import tvm

        cpu = _own_cpu() if self.cpu == "native" else self.cpu
        return tvm.target.Target(
            {"kind": "llvm", "mtriple": self.triple, "mcpu": cpu, "num-cores": self.threads}
        )

    def measured_on(self) -> str:
        """Return the device in words, such as ``AMD EPYC, 2 cores, Linux x86_64``."""
        return self.device or machine.describe(machine.core_count())

    def require_compiler(self) -> str:
        """Return the path of the compiler that links libraries for this target.

        Raises
        ------
        TargetError
            If it is not on PATH; the message names the package to install.
        """
        path = shutil.which(self.compiler)
        if path is None:
            raise TargetError(
                f"target {self.name} needs the compiler {self.compiler}, which is not on PATH: "
                f"install the package {self.compiler_package}"
            )
        return path


def _own_cpu() -> str:
    """Return the name LLVM gives this machine's processor."""
    import tvm

    return str(tvm.get_global_func("target.llvm_get_system_cpu")())
