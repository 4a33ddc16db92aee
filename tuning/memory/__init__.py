"""The memory of what flows between a network's functions, planned so that concatenations copy nothing."""

from tuning.memory.plan import plan_memory

__all__ = ["plan_memory"]
