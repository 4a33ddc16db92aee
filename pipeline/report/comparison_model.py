"""What report.json holds of several targets: the report of each, and which to ship."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from pipeline.record import Name, Record
from pipeline.report.model import HandedOver, Report

SCHEMA_VERSION = 1


class Choice(Record):
    """What to ship: a target's network, its median time in milliseconds, and the folder of its bundle.

    The folder is relative to that of the report.
    """

    target: Name
    network: Literal["merged"] = "merged"
    folder: str
    median_ms: PositiveFloat


class Comparison(HandedOver):
    """All of report.json for several targets; `targets` holds a whole report for each, in the order given.

    `folders` are those of their results, relative to that of the report. `choice` is the fastest merged
    network of those whose times were measured on a real device; None if there is none.

    Raises
    ------
    pydantic.ValidationError
        It chooses what was not measured on a real device, or what another target is faster than.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    choice: Choice | None
    choice_note: str = Field(min_length=1)
    folders: tuple[str, ...]
    targets: tuple[Report, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _chooses_the_fastest_real_one(self) -> Self:
        fastest = fastest_of(self.targets)
        if self.choice is None and fastest is None:
            return self
        if self.choice is None or fastest is None:
            raise ValueError("a target is chosen if one was measured on a real device, and only then")
        best = self.targets[fastest]
        if (self.choice.target, self.choice.median_ms) != (best.target.name, best.latency_ms.merged.median):
            raise ValueError(f"the choice is not the fastest: {best.target.name} is")
        return self


def fastest_of(reports: tuple[Report, ...]) -> NonNegativeInt | None:
    """Return which report has the fastest merged network, of those from a real device; None if none is."""
    real = [index for index, report in enumerate(reports) if not report.device.emulated]
    return min(real, key=lambda index: reports[index].latency_ms.merged.median, default=None)


def compared(reports: tuple[Report, ...], folders: tuple[str, ...]) -> Comparison:
    """Put the reports of one network side by side and choose a target.

    Parameters
    ----------
    reports : tuple of Report
        Measured in turns in one run.
    folders : tuple of str
        Of their results, relative to that of the comparison.
    """
    fastest = fastest_of(reports)
    choice = None if fastest is None else _choice(reports[fastest], folders[fastest])
    return Comparison(
        structure_only=reports[0].structure_only,
        notices=reports[0].notices,
        choice=choice,
        choice_note=_note(reports, fastest),
        folders=folders,
        targets=reports,
    )


def _choice(report: Report, folder: str) -> Choice:
    return Choice(
        target=report.target.name, folder=f"{folder}/merged", median_ms=report.latency_ms.merged.median
    )


def _note(reports: tuple[Report, ...], fastest: int | None) -> str:
    """Say what the choice rests on, and what was left out of it."""
    emulated = [report for report in reports if report.device.emulated]
    parts = [_reason(reports, fastest)]
    if emulated:
        names = ", ".join(f"{each.target.name} (measured on {each.device.measured_on})" for each in emulated)
        parts.append(f"not compared, since emulated times say nothing about a real device: {names}")
    return "; ".join(parts)


def _reason(reports: tuple[Report, ...], fastest: int | None) -> str:
    if fastest is None:
        return "no target was measured on a real device, so none is chosen"
    best = reports[fastest].latency_ms.merged.median
    others = [each for each in reports if not each.device.emulated and each is not reports[fastest]]
    if not others:
        return "the only target that was measured on a real device"
    slower = ", ".join(
        f"{each.target.name} takes {each.latency_ms.merged.median / best:.2f}x as long" for each in others
    )
    reason = f"the fastest merged network, by medians measured in turns in one run: {slower}"
    originals = [
        each.target.name
        for each in reports
        if not each.device.emulated and each.latency_ms.original.median < best
    ]
    if originals:
        reason += f"; the original network is faster still for {', '.join(originals)}"
    return reason
