"""What can be built for: names, TVM targets, threads and compilers."""

from targets.errors import TargetError
from targets.features import fitting, missing_features
from targets.gpu import Gpu
from targets.info import TargetInfo, Verified
from targets.recognise import DeviceTraits, recognise
from targets.table import all_targets, find, with_its_gpu
from targets.toolchains import TOOLCHAINS, Toolchain

__all__ = [
    "TOOLCHAINS",
    "DeviceTraits",
    "Gpu",
    "TargetError",
    "TargetInfo",
    "Toolchain",
    "Verified",
    "all_targets",
    "find",
    "fitting",
    "missing_features",
    "recognise",
    "with_its_gpu",
]
