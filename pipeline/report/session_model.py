"""What report.json holds of tuning sessions: one frozen class for each idea."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from pipeline.record import Name, Record

SCHEMA_VERSION = 1
NO_END = "killed, or not done yet"


class Point(Record):
    """Milliseconds of the network, estimated, after seconds and trials of a session."""

    at: NonNegativeFloat
    trials: NonNegativeInt
    ms: PositiveFloat


class TaskFacts(Record):
    """A task: `trials` and `failed` are those of the session, `first_us` and `best_us` of one call.

    `share` is its part of the network's time, `of_peak` its speed against the device's measured peak.
    """

    name: Name
    calls: NonNegativeInt
    trials: NonNegativeInt
    failed: NonNegativeInt
    first_us: PositiveFloat | None
    best_us: PositiveFloat | None
    share: NonNegativeFloat | None
    gflops: NonNegativeFloat | None
    of_peak: NonNegativeFloat | None
    stopped: bool


class DeviceFacts(Record):
    """A device, its state at the end of the session if that is known, and the trials it made."""

    address: Name
    status: str | None
    trials: NonNegativeInt
    failed: NonNegativeInt


class Noted(Record):
    """What the user was told, and when, in seconds."""

    at: NonNegativeFloat
    about: str
    text: Name


class SessionFacts(Record):
    """A session.

    `label` tells it from the others of a report. `continues` is the label of the session that it goes on
    from, with its trials; `seconds_before` and `trials_before` are those of all that came before.
    `trials_asked` or `time_budget` (seconds) is what it was given; `reused` counts the trials that the
    database held before. `end` says how it ended, None if its log has no end. `first_ms` and `best_ms` are
    those of the whole network, estimated from its tasks' best times. `stages` are seconds that each had
    something to do. `outliers` counts run times that were left out, `unsteady` the trials whose spread stayed
    large.
    """

    label: Name
    continues: Name | None
    seconds_before: NonNegativeFloat
    trials_before: NonNegativeInt
    network: Name
    target: Name
    measured_on: Name
    emulated: bool
    began: Name
    versions: dict[Name, Name]
    trials_asked: NonNegativeInt | None
    time_budget: PositiveFloat | None
    reused: NonNegativeInt
    end: str | None
    end_detail: Name
    seconds: NonNegativeFloat
    trials: NonNegativeInt
    failed: NonNegativeInt
    failures: dict[str, NonNegativeInt]
    outliers: NonNegativeInt
    unsteady: NonNegativeInt
    first_ms: PositiveFloat | None
    best_ms: PositiveFloat | None
    peak_gflops: PositiveFloat | None
    latency: tuple[Point, ...]
    tasks: tuple[TaskFacts, ...]
    devices: tuple[DeviceFacts, ...]
    stages: dict[str, NonNegativeFloat]
    notes: tuple[Noted, ...]

    @property
    def where(self) -> str:
        """What its times were measured on, with "emulated" where it was."""
        return f"{self.measured_on}{', emulated' if self.emulated else ''}"


class LogFacts(Record):
    """A log: its path, the sessions in it, its lines that could not be used, and what is wrong with some."""

    path: Name
    sessions: NonNegativeInt
    bad_lines: NonNegativeInt
    problems: tuple[Name, ...]


class SessionsReport(Record):
    """All of a report on tuning sessions."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["tuning sessions"] = "tuning sessions"
    logs: tuple[LogFacts, ...] = Field(min_length=1)
    sessions: tuple[SessionFacts, ...] = Field(min_length=1)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the reader has to know before the numbers."""
        emulated = [each for each in self.sessions if each.emulated]
        unended = [each for each in self.sessions if each.end is None]
        damaged = [log for log in self.logs if log.bad_lines]
        return (
            *(
                f"{each.label}: {each.measured_on} is emulated, and its times say nothing about a real device"
                for each in emulated
            ),
            *(f"{each.label} has no end in its log: it was {NO_END}" for each in unended),
            *(
                f"{log.path}: {_lines(log.bad_lines)} not be used: {'; '.join(log.problems)}"
                for log in damaged
            ),
        )


def _lines(number: int) -> str:
    return "1 line could" if number == 1 else f"{number:,} lines could"
