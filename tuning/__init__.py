"""RPC sessions, builder, runner, tuning database, tuner, compiling and measuring."""

from tuning.compiler import Compiled, compile_module
from tuning.devices.session import LocalSession, RemoteSession, Session
from tuning.devices.tracker import RpcConfig
from tuning.errors import TuningError
from tuning.measuring.networks import Latency, Library, measure, run_remote
from tuning.records.database import Cleaning
from tuning.tuner import TaskResult, TuningProgress, TuningResult, tune

__all__ = [
    "Cleaning",
    "Compiled",
    "Latency",
    "Library",
    "LocalSession",
    "RemoteSession",
    "RpcConfig",
    "Session",
    "TaskResult",
    "TuningError",
    "TuningProgress",
    "TuningResult",
    "compile_module",
    "measure",
    "run_remote",
    "tune",
]
