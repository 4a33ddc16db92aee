"""The tables of a report as plain text cells, the same for the terminal, Markdown and HTML."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.model import (
    ACCURACY_NOT_MEASURED,
    Accuracy,
    AccuracyStep,
    Compared,
    Device,
    Merge,
    Precision,
    Report,
    Samples,
    Target,
    Tensor,
)

if TYPE_CHECKING:
    from relay_passes import Cost

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Rows of cells under a title.

    Attributes
    ----------
    note : str
        What the numbers were measured on, or what the reader has to know.
    numbers : frozenset[int]
        The columns that hold numbers.
    empty : str
        What to say when there is no row.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    numbers: frozenset[int] = frozenset()
    empty: str = ""


def tables(report: Report) -> tuple[Table, ...]:
    """Return every table of a report in the order in which it is read."""
    return (
        _comparison(report),
        *([accuracy_table(report.accuracy)] if report.accuracy.measured else []),
        *([_precision(report.precision)] if report.precision is not None else []),
        _merges(report),
        _refusals(report),
        _verification(report),
        _tuning(report),
        *_kernels(report),
        _facts(report),
    )


def headline(report: Report) -> str:
    """Return the result in one line: the speed-up, or that none is claimed."""
    if report.speedup is None:
        return "No speed-up is claimed"
    return f"{report.speedup:.2f}x the speed of the original"


def accuracy_table(accuracy: Accuracy) -> Table:
    """Return the accuracy of each step of a retraining, the undone ones with the reason."""
    return Table(
        title="Accuracy",
        header=("step", "before", "merged", "retrained", "batches", "time", "result"),
        rows=tuple(_accuracy_row(step) for step in accuracy.steps),
        note=f"{accuracy.metric}, {accuracy.note}.{skipped(accuracy)}",
        numbers=frozenset({1, 2, 3, 4, 5}),
        empty="no merge needed retraining.",
    )


def _accuracy_row(step: AccuracyStep) -> tuple[str, ...]:
    values = (metric_value(value) for value in (step.before, step.started, step.accuracy))
    result = "kept" if step.kept else f"undone: {step.reason}" if step.reason else "undone"
    return step.name, *values, f"{step.iterations:,}", duration(step.seconds), result


def _precision(precision: Compared[Precision]) -> Table:
    """Return what float16 layers or int8 weights cost each network."""
    rows = (("original", precision.original), ("merged", precision.merged))
    facts = precision.merged
    form = facts.dtype if facts.weights is None else f"{facts.dtype}, {facts.weights} weights"
    on = (
        f"{facts.samples:,} samples of {facts.data}"
        if facts.data
        else (
            f"{facts.samples:,} random inputs whose largest output stays the largest; {ACCURACY_NOT_MEASURED}"
        )
    )
    return Table(
        title="Precision",
        header=("network", "float32", form, "layers"),
        rows=tuple(
            (name, metric_value(each.before), metric_value(each.after), each.note) for name, each in rows
        ),
        note=f"{facts.metric} in torch, {on}.",
        numbers=frozenset({1, 2}),
    )


def change_of(accuracy: Accuracy) -> str:
    """Return the accuracy in one line: what it was, what it is, and on what; or that it was not measured."""
    if not accuracy.measured:
        return accuracy.note
    lost = accuracy.drop or 0.0
    change = f"{metric_value(abs(lost))} points {'less' if lost > 0 else 'more'}" if lost else "the same"
    return (
        f"{accuracy.metric} {metric_value(accuracy.before)} -> {metric_value(accuracy.after)}, {change}, "
        f"on {counted(accuracy.validation, 'validation')}"
    )


def skipped(accuracy: Accuracy) -> str:
    """Return a sentence for each kind of data that held samples which could not be read."""
    return "".join(
        f" Skipped, since they could not be read: {counted(data, part, data.skipped)}: "
        f"{', '.join(data.unreadable)}{', ...' if data.skipped > len(data.unreadable) else ''}."
        for part, data in (("training", accuracy.training), ("validation", accuracy.validation))
        if data is not None and data.skipped
    )


def counted(data: Samples, part: str, number: int | None = None) -> str:
    """Return how many samples there are, all or a number of them, and where they came from, in words."""
    number = data.samples if number is None else number
    return f"{number:,} {part} sample{'' if number == 1 else 's'} of {data.name}"


def metric_value(value: float) -> str:
    """Return a metric: percentages with two decimals, small numbers with four digits."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return a time as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def printable(text: str) -> str:
    """Return text on one line, without control characters or invisible ones."""
    return "".join(each if each.isprintable() else " " for each in text)


def measured_on(device: Device) -> str:
    """Return what a time was measured on, in words, with "emulated" wherever it was."""
    threads = "" if device.threads is None else f", {counted_threads(device.threads)}"
    return f"{device.measured_on}{threads}{', emulated' if device.emulated else ''}"


def counted_threads(number: int) -> str:
    """Return a number of threads in words."""
    return "1 thread" if number == 1 else f"{number} threads"


def described(target: Target) -> str:
    """Return what was compiled for, in words."""
    processor = f"{target.triple}, {target.cpu}, {counted_threads(target.threads)}"
    if target.gpu is None:
        return f"{target.name}: {processor}"
    return f"{target.name}: {target.gpu.description} through OpenCL, driven by {processor}"


def count(value: float) -> str:
    """Return a number with three digits and its unit prefix: 1_580_000_000 is "1.58 G"."""
    return _scaled(value, ("", "K", "M", "G", "T"))


def size(value: float) -> str:
    """Return a number of bytes in the unit that reads best: 28_000_000 is "28 MB"."""
    return _scaled(value, ("B", "KB", "MB", "GB", "TB"))


def costs(before: "Cost", after: "Cost") -> str:
    """Return what a network takes before and after, in words."""
    return (
        f"{before.macs / 1e6:,.0f} -> {after.macs / 1e6:,.0f} million multiply-adds, "
        f"{before.parameters:,} -> {after.parameters:,} parameters, {before.layers} -> {after.layers} layers"
    )


def milliseconds(value: float | None) -> str:
    """Return a time with three digits and its unit, or a dash when there is none."""
    return NOTHING if value is None else f"{_three_digits(value)} ms"


def _comparison(report: Report) -> Table:
    latency, memory, totals = report.latency_ms, report.memory, report.totals
    emulated = ", emulated" if report.device.emulated else ""
    claims = not report.device.emulated

    def timed(label: str, facts: Compared, field: str) -> tuple[str, ...]:
        before, after = getattr(facts.original, field), getattr(facts.merged, field)
        change = percent_change(before, after) if claims else NOTHING
        return f"{label}{emulated}", milliseconds(before), milliseconds(after), change

    def sized(label: str, facts: Compared, field: str, text=count) -> tuple[str, ...]:
        before, after = getattr(facts.original, field), getattr(facts.merged, field)
        return label, text(before), text(after), percent_change(before, after)

    rows = [timed("Latency, median", latency, "median"), timed("Latency, 90th percentile", latency, "p90")]
    if latency.original.untuned or latency.merged.untuned:
        rows.append(timed("Latency, untuned", latency, "untuned"))
    rows += [
        ("Timed runs", str(latency.original.runs), str(latency.merged.runs), ""),
        ("Trials of tuning", str(latency.original.tuned_trials), str(latency.merged.tuned_trials), ""),
        sized("Multiply-adds", totals, "macs"),
        sized("Parameters", totals, "params"),
        sized("Layers", totals, "layers", str),
        *_launches(report),
        sized("Memory planned for activations", memory, "planned_bytes", size),
        sized("Library", memory, "library_bytes", size),
        sized("Weights", memory, "weights_bytes", size),
        *_stored(report),
    ]
    return Table(
        title="Original against merged",
        header=("", "original", "merged", "change"),
        rows=tuple(rows),
        note=f"Times measured on {measured_on(report.device)}; sizes of what was compiled for "
        f"{report.target.name}.",
        numbers=frozenset({1, 2, 3}),
    )


def _launches(report: Report) -> Iterator[tuple[str, ...]]:
    if report.launches is not None:
        before, after = report.launches.original, report.launches.merged
        counted = "Functions called" if report.target.gpu is None else "Kernels launched"
        yield counted, str(before), str(after), percent_change(before, after)


def _stored(report: Report) -> Iterator[tuple[str, ...]]:
    before, after = (each.stored_weights_bytes for each in (report.memory.original, report.memory.merged))
    if before is not None and after is not None:
        yield "Weights, as stored", size(before), size(after), percent_change(before, after)


def _merges(report: Report) -> Table:
    return Table(
        title="Merges made",
        header=("layer", "kind", "weights", "layers", "parameters", "multiply-adds"),
        rows=tuple(
            (
                merge.name,
                merge.kind,
                _weights_state(merge),
                f"{-merge.layers_removed}",
                percent_change(merge.params_before, merge.params_after),
                f"{count(merge.macs_before)} -> {count(merge.macs_after)}",
            )
            for merge in report.merges
        ),
        note="Parameters and multiply-adds of the whole network, before and after each merge."
        if report.merges
        else "",
        numbers=frozenset({3, 4, 5}),
        empty="None.",
    )


def _weights_state(merge: Merge) -> str:
    if merge.untrained:
        return "untrained"
    return "exact" if merge.exact else "retrained"


def _refusals(report: Report) -> Table:
    return Table(
        title="Candidates refused",
        header=("candidate", "kind", "layers", "reason"),
        rows=tuple(
            (
                each.name,
                each.kind,
                ", ".join(each.layers),
                f"{each.reason}: {each.detail}" if each.detail else each.reason,
            )
            for each in report.refusals
        ),
        empty="None.",
    )


def _verification(report: Report) -> Table:
    return Table(
        title="Verification",
        header=("what", "against", "largest difference", "tolerance", "result"),
        rows=tuple(
            (
                each.what,
                each.against,
                f"{each.max_abs_diff:.2g}",
                f"{each.tolerance:.2g}",
                "passed" if each.passed else "FAILED",
            )
            for each in report.verification
        ),
        numbers=frozenset({2, 3}),
    )


def _tuning(report: Report) -> Table:
    both = (report.tuning.original, report.tuning.merged)
    fields = {
        "Tasks": "tasks",
        "Trials": "trials",
        "Failed trials": "failed",
        "Trials whose times did not settle": "unsteady",
        "Records applied": "records_applied",
        "Functions": "functions",
        "Layers by Winograd's algorithm": "winograd",
    }
    counts = ((label, *(str(getattr(each, name)) for each in both)) for label, name in fields.items())
    return Table(
        title="Tuning",
        header=("", "original", "merged"),
        rows=(
            *counts,
            ("Functions without a record", *(_list(each.untuned) for each in both)),
            ("Why trials failed", *(_causes(each.failures) for each in both)),
            ("Wrong schedules, banned", *(_list(each.wrong) for each in both)),
            ("Schedules that could not be compared", *(_list(each.uncompared) for each in both)),
            ("Left out of the database", *(each.left_out for each in both)),
            ("Time spent", *(f"{each.seconds:.0f} s" for each in both)),
        ),
        note=f"Trials were measured on {measured_on(report.device)}.",
        numbers=frozenset({1, 2}),
    )


def _kernels(report: Report) -> Iterator[Table]:
    """A table for each network whose kernels were timed."""
    if report.kernels is None:
        return
    for network in ("original", "merged"):
        kernels = getattr(report.kernels, network)
        total = sum(each.microseconds for each in kernels)
        yield Table(
            title=f"Kernels of the {network} network",
            header=("function", "calls", "launches", "time", "share"),
            rows=tuple(
                (
                    each.name,
                    str(each.calls),
                    str(each.launches),
                    f"{_three_digits(each.microseconds)} us",
                    f"{100 * each.microseconds / total:.1f} %",
                )
                for each in kernels
            ),
            note=f"Times of all calls in one inference, each function alone on random input, measured on "
            f"{measured_on(report.device)}.",
            numbers=frozenset({1, 2, 3, 4}),
            empty="None.",
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _causes(failures: Mapping[str, int]) -> str:
    return _list(f"{cause} {count}" for cause, count in failures.items())


def _facts(report: Report) -> Table:
    model = report.model
    return Table(
        title="What was measured",
        header=("", ""),
        rows=(
            ("Model", f"{model.name} ({model.framework})"),
            ("Digest", model.source_digest),
            ("Inputs", _tensors(model.inputs)),
            ("Outputs", _tensors(model.outputs)),
            ("Target", described(report.target)),
            ("Measured on", measured_on(report.device)),
            ("Accuracy", change_of(report.accuracy)),
            ("Speed-up", report.speedup_note),
            ("Versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ),
    )


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    return "; ".join(f"{each.name} {'x'.join(map(str, each.shape))} {each.dtype}" for each in tensors)


def percent_change(before: float | None, after: float | None) -> str:
    """Return by how many percent a value changed, or a dash when one of the two is not there."""
    if not before or after is None:
        return NOTHING
    percent = round(100 * (after / before - 1))
    return f"{percent:+d} %" if percent else "0 %"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    if value < 1000 or len(units) == 1:
        return f"{_three_digits(value)} {units[0]}".rstrip()
    return _scaled(value / 1000, units[1:])


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
