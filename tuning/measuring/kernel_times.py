"""Times each function of a compiled network on a session's device, alone and on random input."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tvm

from targets import TargetInfo
from tuning.compiler import Compiled
from tuning.devices import tracker
from tuning.devices.session import Session
from tuning.devices.tracker import RpcConfig
from tuning.errors import TuningError
from tuning.functions import NetworkFunction
from tuning.measuring.evaluation import evaluate, timer
from tuning.measuring.kernel import Numbers, random_arguments
from tuning.measuring.limits import Limits
from tuning.measuring.transfer import send
from tuning.workers import call

_WAIT_SECONDS = 60.0
_LIMITS = Limits(measure_seconds=0.3)
_FUNCTION_SECONDS = 5.0
_NAME = "kernels.so"


@dataclass(frozen=True)
class KernelTime:
    """The time of a function of a network.

    Attributes
    ----------
    function : NetworkFunction
    median_us : float
        Median of one call in microseconds.
    """

    function: NetworkFunction
    median_us: float

    @property
    def inference_us(self) -> float:
        """Microseconds of all its calls in one inference."""
        return self.function.calls * self.median_us


def kernel_times(
    session: Session, target: TargetInfo, compiled: Compiled, seconds: float = 300.0
) -> list[KernelTime]:
    """Time each function that a network calls, the one that takes most of an inference first.

    Parameters
    ----------
    session : Session
        The device, entered.
    target : TargetInfo
        What the network was compiled for.
    compiled : Compiled
        With its functions alone: ``compile_module(..., functions_alone=True)``.
    seconds : float
        All of it may take so long.

    Raises
    ------
    TuningError
        If the network was compiled without them, no device serves the session's key, or the runs fail or take
        too long.
    """
    if compiled.functions_alone is None:
        raise TuningError("the network's functions cannot be timed: compile it with functions_alone=True")
    tracker.require_device(session.rpc_config)
    arguments = (
        session.rpc_config,
        compiled.functions_alone,
        compiled.functions,
        target.device_type,
        seconds,
    )
    outcome = call(time_functions, *arguments, seconds=seconds + _WAIT_SECONDS)
    if outcome.cause is not None:
        raise TuningError(f"timing the network's functions failed: {outcome.cause}")
    times = [
        KernelTime(function, each) for function, each in zip(compiled.functions, outcome.value, strict=True)
    ]
    return sorted(times, key=lambda each: -each.inference_us)


def time_functions(
    config: RpcConfig,
    library: Path,
    functions: tuple[NetworkFunction, ...],
    device_type: str,
    seconds: float,
) -> list[float]:
    """Do what ``kernel_times`` says, in this process; return microseconds."""
    lease = tracker.request(config, _WAIT_SECONDS, seconds)
    send(lease.remote, library, _NAME, lease.address, lambda line: None)
    module, device = lease.remote.load_module(_NAME), lease.remote.device(device_type, 0)
    return [1e6 * _seconds(module, device, function) for function in functions]


def _seconds(module: tvm.runtime.Module, device: tvm.runtime.Device, function: NetworkFunction) -> float:
    values = random_arguments(function.arguments, seed=0, numbers=Numbers.POSITIVE)
    arguments = [tvm.runtime.tensor(value, device) for value in values]
    module[function.name](*arguments)
    device.sync()
    evaluation = evaluate(timer(module, device, arguments, function.name), _LIMITS, _FUNCTION_SECONDS)
    if not evaluation.valid:
        raise TuningError(f"the device's clock says {evaluation.seconds[0]:g} s for {function.name}")
    return median(evaluation.seconds)
