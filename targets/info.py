"""One thing to build for: TVM's view of it, its threads, its compiler."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from targets import llvm, machine
from targets.errors import TargetError
from targets.gpu import Gpu
from targets.toolchains import Toolchain

if TYPE_CHECKING:
    import tvm

OWN_CPU = "native"
_HARD_FLOAT = "eabihf"


class Verified(StrEnum):
    """How code for a target was tried."""

    HARDWARE = "run on hardware"
    EMULATED = "run emulated"
    ON_POCL = "run on PoCL"
    COMPILED = "compiled only"
    NOT = "not tried"


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
        Cores of the device that the code runs on, those of the fast cluster where there are two kinds; None
        means those this process may use on this machine.
    device : str
        The device in words; empty means this machine, or the description of another one.
    compiler, compiler_package : str
        The C++ compiler that links libraries for it, and the package that brings it.
    emulated : bool
        Whether code for it runs in an emulator here, so that its times say nothing.
    features : tuple of str
        What the processor has beyond its architecture's base, by LLVM's names, such as ``dotprod``.
    clusters : str
        All cores of the device in words.
    family : str
        Which targets share its toolchain, in words.
    verified : Verified
        How code for it was tried.
    gpu : Gpu or None
        The GPU that runs the network; the processor drives it. None if the processor runs it.
    graphics : str
        The board's GPU in words, whether it is used or not; empty if the target is no board.
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
    features: tuple[str, ...] = ()
    clusters: str = ""
    family: str = ""
    verified: Verified = Verified.NOT
    gpu: Gpu | None = None
    graphics: str = ""

    @property
    def device_type(self) -> str:
        """TVM's name of the device the code runs on."""
        return "cpu" if self.gpu is None else "opencl"

    @cached_property
    def threads(self) -> int:
        """The number of cores the code may use."""
        return self.cores or machine.core_count()

    @property
    def processor(self) -> str:
        """LLVM's name of the processor, this machine's own too; asking for that one imports TVM."""
        return _own_cpu() if self.cpu == OWN_CPU else self.cpu

    @property
    def toolchain(self) -> Toolchain:
        """What links libraries for it."""
        return Toolchain(self.family or self.name, self.triple, self.compiler, self.compiler_package)

    def with_threads(self, threads: int | None) -> "TargetInfo":
        """Return this target with code for so many threads; None leaves it as it is."""
        return self if threads is None else replace(self, cores=threads)

    def with_compiler(self, compiler: str | None) -> "TargetInfo":
        """Return this target with the C++ compiler that the user named; None leaves it as it is."""
        return self if compiler is None else replace(self, compiler=compiler, compiler_package="")

    def with_gpu(self, gpu: Gpu) -> "TargetInfo":
        """Return the target of a GPU that this target's processor drives."""
        return replace(
            self,
            name=f"{gpu.name}+{self.name}",
            description=f"{gpu.description}, driven by {self.description}",
            device=f"{gpu.description}, driven by {self.measured_on()}",
            verified=Verified.ON_POCL,
            gpu=gpu,
        )

    def target(self) -> "tvm.target.Target":
        """Return TVM's target: the GPU with the processor as its host, or LLVM for the processor.

        The processor has its real number of cores.

        Features that LLVM gives to the processor anyway are left out, so that targets for which the same code
        is made are equal.

        LLVM would take the hard-float ABI from the triple, but TVM sets the soft one if it is not told. Then
        calls of functions such as ``powf`` pass numbers in the wrong registers, and linkers refuse the code.
        """
        import tvm

        cpu = self.processor
        fields = {"kind": "llvm", "mtriple": self.triple, "mcpu": cpu, "num-cores": self.threads}
        if self.triple.endswith(_HARD_FLOAT):
            fields["mfloat-abi"] = "hard"
        added = sorted(set(self.features) - llvm.features(self.triple, cpu)) if self.features else ()
        if added:
            fields["mattr"] = [f"+{feature}" for feature in added]
        if self.gpu is None:
            return tvm.target.Target(fields)
        return tvm.target.Target(self.gpu.fields(), host=fields)

    def measured_on(self) -> str:
        """Return the device in words, such as ``AMD EPYC, 2 cores, Linux x86_64``, or a board's name."""
        if self.device or self.cpu != OWN_CPU:
            return self.device or self.description or self.name
        return machine.describe(machine.core_count())

    def require_compiler(self) -> str:
        """Return the path of the compiler that links libraries for this target.

        Raises
        ------
        TargetError
            If it is not there; the message names the package to install or the variable to set.
        """
        toolchain = self.toolchain
        path = toolchain.find()
        if path is None:
            raise TargetError(
                f"target {self.name} needs the compiler {self.compiler}, {toolchain.where()}: "
                f"{toolchain.remedy}"
            )
        return path


def _own_cpu() -> str:
    """Return the name LLVM gives this machine's processor."""
    import tvm

    return str(tvm.get_global_func("target.llvm_get_system_cpu")())
