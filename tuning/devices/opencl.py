"""The OpenCL device of a server, or of this machine, asked what it is.

OpenCL lives in the processes that use it and in no other: one that has begun to use it cannot be forked.
"""

from dataclasses import dataclass

from targets import Gpu, TargetError
from targets.runtime.opencl import is_built, listing
from tuning.devices import tracker
from tuning.devices.tracker import RpcConfig
from tuning.errors import Mistake, TuningError
from tuning.workers import call

_ASK_SECONDS = 60.0
_GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class OpenClDevice:
    """An OpenCL device.

    Attributes
    ----------
    name, version : str
        What it is called (CL_DEVICE_NAME), and what of OpenCL it has (CL_DEVICE_VERSION: ``OpenCL``, a blank,
        the version, a blank, and what the maker likes to add).
    processor : str
        The processor that drives it; empty if the server does not say.
    """

    name: str
    version: str
    processor: str = ""

    @property
    def is_pocl(self) -> bool:
        """Whether it is a processor that PoCL makes an OpenCL device of."""
        return "pocl" in self.version.lower()

    def in_words(self) -> str:
        """Return name and version, such as ``Mali-G76, OpenCL 2.0`` or ``PoCL on AMD EPYC, OpenCL 3.0``."""
        name = f"PoCL on {self.processor or self.name}" if self.is_pocl else self.name
        return f"{name}, {' '.join(self.version.split()[:2])}"

    def is_of_kind(self, gpu: Gpu) -> bool:
        """Tell whether it is of the GPU's family, so that its times say something of such a GPU."""
        return gpu.kind in self.name.lower()


def require_behind(config: RpcConfig) -> OpenClDevice:
    """Return the OpenCL device of a server that serves the key.

    Raises
    ------
    Mistake
        If it has none.
    TuningError
        If the server cannot be asked.
    """
    outcome = call(ask_server, config, seconds=_ASK_SECONDS + _GRACE_SECONDS)
    if outcome.cause is not None:
        raise TuningError(f"the OpenCL device does not say what it is: {outcome.cause}")
    if outcome.value is None:
        raise Mistake(
            f"the device {config.key!r} has no OpenCL device that its server can use: install the GPU's "
            "driver there, and start its server with the OpenCL runtime"
        )
    return outcome.value


def require_here(chosen: str | None = None) -> None:
    """Find out whether this machine has an OpenCL device, the one that is ``chosen`` if that is given.

    Raises
    ------
    Mistake
        If it has none, or no such one; the message says what to install, or which there are.
    """
    if not is_built():
        raise Mistake(
            "deeprebirth was installed without its OpenCL runtime: `deeprebirth doctor` says what to install"
        )
    try:
        listing(chosen)
    except TargetError as error:
        raise Mistake(f"{error}; `deeprebirth doctor` says more") from None


def ask_server(config: RpcConfig) -> OpenClDevice | None:
    """Do what ``require_behind`` says, but ask only, in this process."""
    lease = tracker.request(config, _ASK_SECONDS, _ASK_SECONDS)
    facts = tracker.device_facts(lease)
    device = lease.remote.device("opencl", 0)
    if not device.exist:
        return None
    processor = "" if facts is None else facts.cpu
    return OpenClDevice(str(device.device_name), str(device.compute_version), processor)
