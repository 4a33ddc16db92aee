"""The OpenCL device of a server or of this machine, asked what it is.

OpenCL lives in the processes that use it and in no other: one that has begun to use it cannot be forked.
"""

import os
from dataclasses import dataclass

import tvm

from targets import Gpu
from tuning.devices import tracker
from tuning.devices.tracker import RpcConfig
from tuning.errors import Mistake, TuningError
from tuning.worker import Outcome
from tuning.workers import call

CHOICE = "DEEPREBIRTH_OPENCL_DEVICE"
"""The environment variable that names the device to use where there are several."""

_ASK_SECONDS = 60.0
_GRACE_SECONDS = 60.0
_KIND = "opencl"


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
    device = _answer(call(ask_server, config, seconds=_ASK_SECONDS + _GRACE_SECONDS))
    if device is None:
        raise Mistake(
            f"the device {config.key!r} has no OpenCL device that its server can use: install the GPU's "
            "driver there, and start its server with the OpenCL runtime"
        )
    return device


def require_here(chosen: str | None = None) -> OpenClDevice:
    """Return the OpenCL device of this machine, the one that is called ``chosen`` if a name is given.

    Raises
    ------
    Mistake
        If it has none, or none of that name.
    TuningError
        If it cannot be asked, as its driver crashes for example.
    """
    device = _answer(call(ask_here, chosen, seconds=_ASK_SECONDS))
    if device is None and chosen is None:
        raise Mistake(
            "there is no OpenCL device here that can be used: install the GPU's driver, or pocl-opencl-icd, "
            "which runs OpenCL on the processor; `deeprebirth doctor` says what is missing"
        )
    if device is None:
        raise Mistake(
            f"no OpenCL device here is called {chosen!r}: `deeprebirth doctor` names those there are"
        )
    return device


def ask_server(config: RpcConfig) -> OpenClDevice | None:
    """Do what ``require_behind`` says, but ask only, in this process."""
    lease = tracker.request(config, _ASK_SECONDS, _ASK_SECONDS)
    facts = tracker.device_facts(lease)
    return _described(lease.remote.device(_KIND, 0), "" if facts is None else facts.cpu)


def ask_here(chosen: str | None) -> OpenClDevice | None:
    """Do what ``require_here`` says, but ask only, in this process."""
    if chosen is not None:
        os.environ[CHOICE] = chosen
    return _described(tvm.device(_KIND, 0), "")


def _described(device: tvm.runtime.Device, processor: str) -> OpenClDevice | None:
    if not device.exist:
        return None
    return OpenClDevice(str(device.device_name), str(device.compute_version), processor)


def _answer(outcome: Outcome) -> OpenClDevice | None:
    if outcome.cause is not None:
        raise TuningError(f"the OpenCL device does not say what it is: {outcome.cause}")
    return outcome.value
