"""Runs compiled networks on a session's device: their outputs, and their times side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tuning.devices import tracker
from tuning.devices.session import Session
from tuning.devices.tracker import Lease, RpcConfig
from tuning.errors import TuningError
from tuning.measuring.steadiness import judge
from tuning.measuring.transfer import send
from tuning.workers import call

RETURN_SECONDS = 20.0
"""How long a device that is away, as it reboots for example, is waited for."""

_WAIT_SECONDS = 60.0
_GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Library:
    """A compiled network on disk: the shared library and its weights."""

    library: Path
    weights: Path


@dataclass(frozen=True)
class Latency:
    """The times of one network.

    Attributes
    ----------
    times_ms : tuple of float
        Milliseconds of each run, in the order they were made.
    """

    times_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median of the runs in milliseconds."""
        return float(np.median(self.times_ms))

    @property
    def p90_ms(self) -> float:
        """The time that nine of ten runs stay below, in milliseconds."""
        return float(np.percentile(self.times_ms, 90))

    @property
    def outliers(self) -> int:
        """Runs that lie far above the others; they count in the median and the percentile."""
        return judge(self.times_ms).outliers

    @property
    def runs(self) -> int:
        """How many runs were timed."""
        return len(self.times_ms)


def measure(
    session: Session,
    libraries: dict[str, Library],
    inputs: dict[str, list[np.ndarray]],
    rounds: int,
    seconds: float = 300.0,
    device_type: str = "cpu",
) -> dict[str, Latency]:
    """Time networks alternately in one session: a warm-up of each, then A, B, A, B and so on.

    Parameters
    ----------
    session : Session
        The device, entered.
    libraries : dict of str to Library
        The networks.
    inputs : dict of str to list of numpy.ndarray
        The inputs of each, in the order of ``main``'s parameters.
    rounds : int
        Timed runs of each network.
    seconds : float
        All of it may take so long.
    device_type : str
        TVM's name of the device.

    Raises
    ------
    TuningError
        If no device serves the session's key, or the runs fail or take too long.
    """
    arguments = (session.rpc_config, libraries, inputs, rounds, seconds, device_type)
    times = _on_device(measure_here, arguments, seconds)
    return {name: Latency(tuple(each)) for name, each in times.items()}


def run_remote(
    session: Session,
    library: Library,
    inputs: list[np.ndarray],
    seconds: float = 120.0,
    device_type: str = "cpu",
) -> list[np.ndarray]:
    """Run a network once on the session's device and return its outputs.

    Raises
    ------
    TuningError
        If no device serves the session's key, or the run fails or takes too long.
    """
    return _on_device(run_here, (session.rpc_config, library, inputs, seconds, device_type), seconds)


def measure_here(
    config: RpcConfig,
    libraries: dict[str, Library],
    inputs: dict[str, list[np.ndarray]],
    rounds: int,
    seconds: float,
    device_type: str,
) -> dict[str, list[float]]:
    """Do what ``measure`` says, in this process; return milliseconds."""
    lease = tracker.request(config, _WAIT_SECONDS, seconds, RETURN_SECONDS)
    device = lease.remote.device(device_type, 0)
    evaluators = {}
    for number, (name, library) in enumerate(libraries.items()):
        machine = _upload(lease, device, f"network{number}.so", library, inputs[name])
        evaluators[name] = machine.time_evaluator("invoke_stateful", device, number=1, repeat=1)
    times: dict[str, list[float]] = {name: [] for name in libraries}
    for _ in range(rounds):
        for name, evaluate in evaluators.items():
            times[name].append(evaluate("main").mean * 1e3)
    return times


def run_here(
    config: RpcConfig, library: Library, inputs: list[np.ndarray], seconds: float, device_type: str
) -> list[np.ndarray]:
    """Do what ``run_remote`` says, in this process."""
    lease = tracker.request(config, _WAIT_SECONDS, seconds, RETURN_SECONDS)
    machine = _upload(lease, lease.remote.device(device_type, 0), "network.so", library, inputs)
    machine.invoke_stateful("main")
    outputs = machine.get_outputs("main")
    return [each.numpy() for each in (outputs if isinstance(outputs, tuple | list) else (outputs,))]


def _upload(
    lease: Lease,
    device: tvm.runtime.Device,
    name: str,
    library: Library,
    inputs: list[np.ndarray],
) -> relax.VirtualMachine:
    """Load a network on the device under a name of its own, and give it its inputs and weights."""
    send(lease.remote, library.library, name, lease.address, lambda line: None)
    machine = relax.VirtualMachine(lease.remote.load_module(name), device)
    weights = tvm.runtime.load_param_dict(library.weights.read_bytes())
    tensors = [tvm.runtime.tensor(each, device) for each in inputs]
    tensors += [tvm.runtime.tensor(weights[key].numpy(), device) for key in sorted(weights, key=str)]
    machine.set_input("main", *tensors)
    return machine


def _on_device(function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> Any:
    """Call a function that uses the device, in a process of its own."""
    tracker.require_device(arguments[0], RETURN_SECONDS)
    outcome = call(function, *arguments, seconds=seconds + _WAIT_SECONDS + _GRACE_SECONDS)
    if outcome.cause is None:
        return outcome.value
    if outcome.seconds >= seconds:
        raise TuningError(f"the device took longer than {seconds:g} s: allow it more time, or fewer runs")
    raise TuningError(f"running on the device failed: {outcome.cause}")
