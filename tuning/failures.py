"""Why a trial failed: a closed set of causes, which the report counts."""

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What became of a trial that gave no time."""

    BUILD_FAILED = "build failed"
    BEYOND_LIMITS = "beyond the device's limits"
    TIMED_OUT = "timed out"
    ILLEGAL_INSTRUCTION = "crashed with an illegal instruction"
    CRASHED = "crashed"
    DEVICE_GONE = "device gone"
    OUT_OF_MEMORY = "out of memory"
    REFUSED = "refused by the device"
    NO_TIME = "measured a time of zero"
    WRONG_RESULT = "wrong result"


@dataclass(frozen=True)
class Failure:
    """A cause, and the one line that tells more of it."""

    cause: Cause
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.cause}: {self.detail}" if self.detail else str(self.cause)
