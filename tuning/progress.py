"""Where tuning is: what the live view shows, and what a session's log keeps as JSON lines."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat

from tuning.failures import Cause

Stage = Literal["search", "build", "measure", "check", "idle"]
DeviceStatus = Literal["free", "measuring", "cooling down", "gone"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskProgress(_Record):
    """A task: a function of the network, called `weight` times, of `flop` operations each.

    `trials` counts the candidates that the database holds of it, `failed` those without a time. `best_us` is
    microseconds of the best schedule, None if there is none. `stopped` is set once it gets no more trials,
    as it has stopped gaining or has nothing new to try.
    """

    name: str
    weight: NonNegativeInt
    flop: NonNegativeFloat
    trials: NonNegativeInt
    failed: NonNegativeInt
    best_us: PositiveFloat | None = None
    stopped: bool = False

    @property
    def network_us(self) -> float | None:
        """Microseconds of all its calls in the network."""
        return None if self.best_us is None else self.weight * self.best_us

    @property
    def gflops(self) -> float | None:
        """Billions of operations a second with the best schedule."""
        return None if self.best_us is None else self.flop / self.best_us / 1e3


class DeviceProgress(_Record):
    """A device, what it does now, and the trials it made in this session."""

    address: str
    status: DeviceStatus
    trials: NonNegativeInt = 0
    failed: NonNegativeInt = 0


class TuningProgress(_Record):
    """Where tuning is.

    `at` is seconds since it began. `current` is the position of the task whose trial came last.
    `trials_done` counts what the database holds of this network, `trials_total` is None when seconds are the
    budget. `failures` are those of this session. `best_ms` is milliseconds of the whole network with the best
    schedules so far, None until every task has one. `stages` are seconds that each stage had something to do,
    `idle` those in which no device had. `peak_gflops` is what the device was measured to reach.
    """

    kind: Literal["progress"] = "progress"
    at: NonNegativeFloat
    tasks: tuple[TaskProgress, ...]
    current: NonNegativeInt | None = None
    trials_done: NonNegativeInt
    trials_total: NonNegativeInt | None
    failures: dict[Cause, NonNegativeInt] = {}
    devices: tuple[DeviceProgress, ...] = ()
    best_ms: PositiveFloat | None = None
    seconds_left: NonNegativeFloat | None = None
    stages: dict[Stage, NonNegativeFloat] = {}
    peak_gflops: PositiveFloat | None = None


class SessionStarted(_Record):
    """The first line of a session's log."""

    kind: Literal["started"] = "started"
    time: str
    network: str
    target: str
    measured_on: str
    emulated: bool
    versions: dict[str, str]
    trials: NonNegativeInt | None
    time_budget: PositiveFloat | None
    reused: NonNegativeInt


class Trial(_Record):
    """One trial, in seconds since the session began; `seconds` are its run times, `cause` why it has none."""

    kind: Literal["trial"] = "trial"
    at: NonNegativeFloat
    task: str
    seconds: tuple[PositiveFloat, ...] = ()
    cause: Cause | None = None
    detail: str = ""
    device: str | None = None
    outliers: NonNegativeInt = 0
    steady: bool = True


class Note(_Record):
    """A line that the user was told: a device that left or came back, throttling, a banned schedule."""

    kind: Literal["note"] = "note"
    at: NonNegativeFloat
    text: str


class SessionEnded(_Record):
    """The last line of a session's log; a log without one is of a session that was killed."""

    kind: Literal["ended"] = "ended"
    at: NonNegativeFloat
    reason: Literal["trials made", "time spent", "nothing left to try", "interrupted", "failed"]
    detail: str = ""


Line = SessionStarted | Trial | TuningProgress | Note | SessionEnded
