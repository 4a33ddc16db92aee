"""The OpenCL devices of this machine.

They are asked for in a process of its own, since one that used OpenCL cannot be forked.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from targets.errors import TargetError

DEVICE_VARIABLE = "DEEPREBIRTH_OPENCL_DEVICE"
"""The environment variable that says which device is device 0: a place in the list, or part of a name."""

_SECONDS = 60.0
_NO_TORCH = "import sys; sys.modules['torch'] = None"
_ASK = f"""{_NO_TORCH}
import json, tvm
ask = lambda name: tvm.get_global_func(f"deeprebirth.opencl.{{name}}")()
try:
    answer = {{"devices": json.loads(ask("devices")), "chosen": ask("chosen")}}
except Exception as error:
    answer = {{"error": str(error), "is_choice": isinstance(error, ValueError)}}
print(json.dumps(answer))
"""


class NoDevice(TargetError):
    """There is no OpenCL driver or no device; the message says what to install."""


@dataclass(frozen=True)
class OpenCLDevice:
    """What a driver says of a device.

    Attributes
    ----------
    place : int
        In the list of all devices.
    name, platform, version, driver : str
        Names and versions as the driver has them.
    type : str
        ``gpu``, ``cpu``, ``accelerator`` or ``custom``.
    compute_units : int
    work_group : int
        Work items of a work group at most.
    local_memory, global_memory, largest_buffer : int
        In bytes: of a work group, of the device, and of one tensor.
    float16 : bool
        Whether it computes in float16.
    """

    place: int
    name: str
    platform: str
    version: str
    driver: str
    type: str
    compute_units: int
    work_group: int
    local_memory: int
    global_memory: int
    largest_buffer: int
    float16: bool


@dataclass(frozen=True)
class Listing:
    """The devices of this machine, GPUs first, and the one that TVM has as device 0."""

    devices: tuple[OpenCLDevice, ...]
    chosen: OpenCLDevice


def listing(wanted: str | None = None) -> Listing:
    """Return the OpenCL devices of this machine.

    Parameters
    ----------
    wanted : str, optional
        Chooses a device in place of ``DEEPREBIRTH_OPENCL_DEVICE``.

    Raises
    ------
    NoDevice
        If there is none.
    TargetError
        If none is the one that is wanted (the message lists them), or they cannot be listed.
    """
    environment = os.environ | {"TVM_USE_RUNTIME_LIB": "1"}
    if wanted is not None:
        environment[DEVICE_VARIABLE] = wanted
    try:
        run = subprocess.run(
            [sys.executable, "-c", _ASK],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise TargetError(f"the OpenCL driver does not answer within {_SECONDS:g} s") from None
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"its process ended with {run.returncode}"]
        raise TargetError(f"OpenCL's devices cannot be listed: {lines[-1]}")
    answer = json.loads(run.stdout.rstrip().rpartition("\n")[2])
    if "error" in answer:
        raise (TargetError if answer["is_choice"] else NoDevice)(answer["error"])
    devices = tuple(OpenCLDevice(**fields) for fields in answer["devices"])
    return Listing(devices, devices[answer["chosen"]])
