"""Where tuning is: what the live view shows, and what a session's log keeps as JSON lines.

Numbers have bounds, so that whatever is computed from those of a damaged log is finite; texts are one line of
at most `LONGEST_TEXT` letters that can be encoded.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tuning.failures import Cause

LONGEST_TEXT = 1000

Stage = Literal["search", "build", "measure", "check", "idle"]
DeviceStatus = Literal["free", "measuring", "cooling down", "gone"]
Subject = Literal["device", "throttling", "banned", "other"]


def _one_line(text: object) -> object:
    if not isinstance(text, str):
        return text
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 3]}..."


Text = Annotated[str, BeforeValidator(_one_line)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Amount = Annotated[float, Field(ge=0, le=1e18)]
Positive = Annotated[float, Field(ge=1e-18, le=1e18)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskProgress(_Record):
    """A task: a function of the network, called `weight` times, of `flop` operations each.

    `trials` counts the candidates that the database holds of it, `failed` those without a time. `best_us` is
    microseconds of the best schedule, None if there is none. `stopped` is set once it gets no more trials,
    as it has stopped gaining or has nothing new to try.
    """

    name: Text
    weight: Count
    flop: Amount
    trials: Count
    failed: Count
    best_us: Positive | None = None
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

    address: Text
    status: DeviceStatus
    trials: Count = 0
    failed: Count = 0


class TuningProgress(_Record):
    """Where tuning is.

    `at` is seconds since it began. `current` is the position of the task whose trial came last.
    `trials_done` counts what the database holds of this network, `trials_total` is None when seconds are the
    budget. `failures` are those of this session. `best_ms` is milliseconds of the whole network with the best
    schedules so far, None until every task has one. `stages` are seconds that each stage had something to do,
    `idle` those in which no device had. `peak_gflops` is what the device was measured to reach. `measured_on`
    is the device in words, for whoever shows a time; `emulated` is said beside it.
    """

    kind: Literal["progress"] = "progress"
    at: Amount
    tasks: tuple[TaskProgress, ...]
    current: Count | None = None
    trials_done: Count
    trials_total: Count | None
    failures: dict[Cause, Count] = {}
    devices: tuple[DeviceProgress, ...] = ()
    best_ms: Positive | None = None
    seconds_left: Amount | None = None
    stages: dict[Stage, Amount] = {}
    peak_gflops: Positive | None = None
    measured_on: Text = ""
    emulated: bool = False


class SessionStarted(_Record):
    """The first line of a session.

    `time` is when it began (ISO 8601, with the zone); `trials` or `time_budget` (seconds) is its budget;
    `reused` counts the trials of this network that the database held before.
    """

    kind: Literal["started"] = "started"
    time: Text
    network: Text
    target: Text
    measured_on: Text
    emulated: bool
    versions: dict[Text, Text]
    trials: Count | None
    time_budget: Positive | None
    reused: Count


class Trial(_Record):
    """One trial, in seconds since the session began; `seconds` are its run times, `cause` why it has none."""

    kind: Literal["trial"] = "trial"
    at: Amount
    task: Text
    seconds: tuple[Positive, ...] = ()
    cause: Cause | None = None
    detail: Text = ""
    device: Text | None = None
    outliers: Count = 0
    steady: bool = True


class Note(_Record):
    """A line that the user was told.

    `about` is "device" for one that left or came back, "throttling" for one that got slower, "banned" for a
    schedule that computes something wrong.
    """

    kind: Literal["note"] = "note"
    at: Amount
    text: Text
    about: Subject = "other"


class SessionEnded(_Record):
    """The last line of a session; one without it was killed, or is not done yet."""

    kind: Literal["ended"] = "ended"
    at: Amount
    reason: Literal["trials made", "time spent", "nothing left to try", "interrupted", "failed"]
    detail: Text = ""


Line = SessionStarted | Trial | TuningProgress | Note | SessionEnded
