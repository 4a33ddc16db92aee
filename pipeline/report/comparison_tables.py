"""The comparison of several targets as plain text: a title, the choice in one line, and a table."""

from pipeline.report.comparison_model import Comparison
from pipeline.report.model import Report
from pipeline.report.tables import NOTHING, Table, change_of, described, measured_on, milliseconds


def title(comparison: Comparison) -> str:
    """Return the title of the page."""
    first, *others = (report.target.name for report in comparison.targets)
    return f"{comparison.targets[0].model.name} for {', '.join((first, *others))}"


def headline(comparison: Comparison) -> str:
    """Return in one line which network of which target to ship, or that none is chosen."""
    choice = comparison.choice
    if choice is None:
        return "No target is chosen"
    advice = "The fastest, for timing only," if comparison.structure_only else "Ship"
    time = milliseconds(choice.median_ms)
    return f"{advice} {choice.folder}: the {choice.network} network for {choice.target}, {time}"


def comparison_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the tables in the order in which they are read."""
    return (_times(comparison), _what(comparison))


def _times(comparison: Comparison) -> Table:
    return Table(
        title="Targets side by side",
        header=("target", "original", "merged", "speed-up", "launches", "measured on"),
        rows=tuple(map(_row, comparison.targets)),
        note="Medians of one inference, all measured in turns in one run; launches are the kernels that one "
        "inference launches, or the functions that it calls on a processor, before and after merging.",
        numbers=frozenset({1, 2, 3, 4}),
    )


def _row(report: Report) -> tuple[str, ...]:
    latency, launches = report.latency_ms, report.launches
    return (
        report.target.name,
        milliseconds(latency.original.median),
        milliseconds(latency.merged.median),
        NOTHING if report.speedup is None else f"{report.speedup:.2f}x",
        NOTHING if launches is None else f"{launches.original} -> {launches.merged}",
        measured_on(report.device),
    )


def _what(comparison: Comparison) -> Table:
    targets = comparison.targets
    return Table(
        title="What was measured",
        header=("", ""),
        rows=(
            ("Model", f"{targets[0].model.name} ({targets[0].model.framework})"),
            ("Digest", targets[0].model.source_digest),
            *(
                (f"Results in {folder}", described(each.target))
                for folder, each in zip(comparison.folders, targets, strict=True)
            ),
            ("Accuracy", change_of(targets[0].accuracy)),
            ("Choice", comparison.choice_note),
        ),
    )
