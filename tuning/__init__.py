"""RPC sessions, builder, runner, tuning database, tuner, compiling and measuring."""

from tuning.building.choice import make_builder
from tuning.compiler import Compiled, compile_module
from tuning.devices.session import LocalSession, RemoteSession, Session
from tuning.devices.tracker import RpcConfig
from tuning.errors import TuningError
from tuning.measuring.kernel_times import KernelTime, kernel_times
from tuning.measuring.networks import Latency, Library, measure, run_remote
from tuning.progress import TuningProgress
from tuning.records.database import Cleaning
from tuning.records.join import Joined, join
from tuning.result import Budget, TaskResult, TuningResult
from tuning.session_log import SessionLog
from tuning.tuner import tune

__all__ = [
    "Budget",
    "Cleaning",
    "Compiled",
    "Joined",
    "KernelTime",
    "Latency",
    "Library",
    "LocalSession",
    "RemoteSession",
    "RpcConfig",
    "Session",
    "SessionLog",
    "TaskResult",
    "TuningError",
    "TuningProgress",
    "TuningResult",
    "compile_module",
    "join",
    "kernel_times",
    "make_builder",
    "measure",
    "run_remote",
    "tune",
]
