"""What a build may take, and why one failed."""

import signal

from tuning.failures import Cause, Failure
from tuning.worker import Outcome

BUILD_SECONDS = 30.0
BUILDS_PER_WORKER = 200
MEMORY_BYTES = 2 << 30


def failure(outcome: Outcome) -> Failure | None:
    """Return why a call of ``build_candidate`` gave no library, or None if it did.

    The system ends a process with SIGKILL when memory runs out.
    """
    if outcome.cause is None:
        return outcome.value
    if outcome.late:
        return Failure(Cause.TIMED_OUT, f"building {outcome.cause}")
    if outcome.out_of_memory or outcome.ended_by is signal.SIGKILL:
        return Failure(Cause.OUT_OF_MEMORY, f"building it: {outcome.cause}")
    return Failure(Cause.BUILD_FAILED, outcome.cause)
