"""What can be built for: names, TVM targets, threads and compilers."""

from targets.info import TargetError, TargetInfo
from targets.table import all_targets, find

__all__ = ["TargetError", "TargetInfo", "all_targets", "find"]
