"""What a device says of itself."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from typing import Self

from targets.machine import core_count, cpu_model


@dataclass(frozen=True)
class DeviceFacts:
    """A device, without its name in the network.

    Attributes
    ----------
    cpu : str
        The processor's model.
    system : str
        Operating system and architecture, such as ``Linux aarch64``.
    cores : int
        Cores that its server may use.
    threads : int
        Threads that measured code runs on.
    emulated : bool
        Whether its instructions are emulated, so that its times say nothing.
    """

    cpu: str
    system: str
    cores: int
    threads: int
    emulated: bool

    @classmethod
    def of_this_machine(cls) -> Self:
        """Describe the machine that this process runs on."""
        cores = core_count()
        threads = os.environ.get("TVM_NUM_THREADS", "")
        return cls(
            cpu=cpu_model(),
            system=f"{platform.system()} {platform.machine()}",
            cores=cores,
            threads=int(threads) if threads.isdecimal() else cores,
            emulated=_is_emulated(),
        )

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what ``to_json`` wrote; None if it is something else."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> str:
        """Write it as one line of JSON."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"{self.in_words()}{', emulated' if self.emulated else ''}"

    def in_words(self) -> str:
        """Return the processor, its cores and the system, such as ``Cortex-A72, 4 cores, Linux aarch64``."""
        unit = "core" if self.cores == 1 else "cores"
        return f"{self.cpu}, {self.cores} {unit}, {self.system}"


def _is_emulated() -> bool:
    """Tell whether the kernel runs another program than this one: an emulator such as qemu-user.

    Asked for the program of the process, an emulator names its guest; asked for that of its thread, it does
    not know what it is asked, and the kernel names the emulator.
    """
    try:
        return os.readlink("/proc/self/exe") != os.readlink(f"/proc/self/task/{os.getpid()}/exe")
    except OSError:
        return False
