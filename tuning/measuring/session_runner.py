"""Measures candidates on a device over RPC, one at a time, each in a session of its own.

The steps are those of MetaSchedule's RPCRunner. What is added: every wait has a bound, the worker process
does not get the terminal's Ctrl-C, a result is there as soon as its own measurement is over, and the cause
of a failure is told in words.
"""

import re
from pathlib import Path

from tvm.s_tir.meta_schedule.runner import EvaluatorConfig, RunnerInput, RunnerResult, rpc_runner

from tuning.devices import tracker
from tuning.devices.tracker import RpcConfig
from tuning.worker import Call, Outcome
from tuning.workers import WorkerPool

TRIAL_SECONDS = 15.0
RETURN_SECONDS = 60.0
EVALUATOR = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=10, enable_cpu_cache_flush=False)
_WAIT_SECONDS = 30.0
_TRANSFER_SECONDS = 30.0
_TRIALS_PER_WORKER = 500
_BROKEN = re.compile(
    "RPCCode::kReturn|kShutdown|reset by peer|broken pipe|closed by peer|end of file|socket", re.IGNORECASE
)


class SessionRunner:
    """Measures candidates on a session's device; ``close`` ends its worker process.

    Parameters
    ----------
    config : RpcConfig
        The tracker and the key of the device.
    trial_seconds : float
        The device ends a candidate that takes longer.
    return_seconds : float
        How long to wait for a device that went away in a trial.
    """

    def __init__(
        self,
        config: RpcConfig,
        trial_seconds: float = TRIAL_SECONDS,
        return_seconds: float = RETURN_SECONDS,
    ) -> None:
        self._config = config
        self._trial_seconds = trial_seconds
        self._return_seconds = return_seconds
        self._pool = WorkerPool(size=1, recycle_after=_TRIALS_PER_WORKER)

    def measure(self, runner_input: RunnerInput) -> RunnerResult:
        """Measure one candidate.

        A broken connection is the candidate's fault or the device's (it restarted): the candidate is measured
        once more when the device is there.

        Raises
        ------
        TuningError
            If the device does not come back.
        """
        arguments = (
            self._config,
            self._trial_seconds,
            str(runner_input.artifact_path),
            str(runner_input.device_type),
            tuple(info.as_json() for info in runner_input.args_info),
        )
        outcome = self._attempt(arguments)
        if self._broke(outcome):
            outcome = self._attempt(arguments)
        if outcome.cause is None:
            return _checked(outcome.value)
        return RunnerResult(None, f"run failed: {self._in_words(outcome)}")

    def close(self) -> None:
        """End the worker process."""
        self._pool.close()

    def _attempt(self, arguments: tuple) -> Outcome:
        bound = self._trial_seconds + _WAIT_SECONDS + _TRANSFER_SECONDS
        outcome = self._pool.run([Call(measure_candidate, arguments, bound)])[0]
        if outcome.cause is not None:
            tracker.wait_for_device(self._config, self._return_seconds)
        return outcome

    def _broke(self, outcome: Outcome) -> bool:
        broken = outcome.cause is not None and _BROKEN.search(outcome.cause) is not None
        return broken and outcome.seconds < self._trial_seconds

    def _in_words(self, outcome: Outcome) -> str:
        if outcome.seconds >= self._trial_seconds:
            return f"took longer than {self._trial_seconds:g} s"
        return "the code crashed on the device" if self._broke(outcome) else outcome.cause


def measure_candidate(
    config: RpcConfig, trial_seconds: float, path: str, device_type: str, args_info: tuple
) -> list[float]:
    """Measure the library ``path`` on a fresh session and return its run times in seconds."""
    remote = tracker.request(config, _WAIT_SECONDS, trial_seconds).remote
    device = remote.device(device_type, 0)
    name = Path(path).name
    try:
        library = rpc_runner.default_upload_module(remote, path, name)
        arguments = rpc_runner.default_alloc_argument(remote, device, args_info, 1)
        return rpc_runner.default_run_evaluator(remote, library, device, EVALUATOR, arguments)
    finally:
        rpc_runner.default_cleanup(remote, name)


def _checked(seconds: list[float]) -> RunnerResult:
    """A time that is zero or less was not measured, whatever the device's clock says."""
    if all(each > 0 for each in seconds):
        return RunnerResult(seconds, None)
    return RunnerResult(None, "run failed: the device measured a time of zero")
