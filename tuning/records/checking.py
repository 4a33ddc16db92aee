"""Checks the best records of a workload against the untuned function, until one is right.

The untuned function runs on the device's processor, also where the records are for its GPU.
Wrong ones are banned on the way. What the untuned function takes too long for stays uncompared, and is said
to be: it is the best record, but nobody knows that it is right.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.ir import IRModule
from tvm.s_tir import meta_schedule as ms

from tuning.building.built import Builder
from tuning.interrupts import held_back
from tuning.measuring.compare import Comparer, Reference
from tuning.records import kernels
from tuning.records.database import best_seconds
from tuning.records.verdicts import Judgement, Verdict, Verdicts


@dataclass(frozen=True)
class Checked:
    """What checking a workload found.

    Attributes
    ----------
    record : TuningRecord or None
        The best record that is not wrong; None if there is none.
    verdict : Verdict or None
        Its verdict: right or not compared.
    banned : tuple of (TuningRecord, Verdict)
        Records that were found to be wrong this time, the best first.
    """

    record: ms.database.TuningRecord | None
    verdict: Verdict | None
    banned: tuple[tuple[ms.database.TuningRecord, Verdict], ...] = ()


def check_best(
    workload: ms.database.Workload,
    database: ms.database.Database,
    verdicts: Verdicts,
    builder: Builder,
    comparer: Comparer,
    seed: int = 0,
) -> Checked:
    """Find the best record of a workload that computes what the untuned function does.

    A record that has a verdict is not compared again, unless it could not be compared.

    Parameters
    ----------
    workload : Workload
        The untuned function.
    database : Database
        Holds its records.
    verdicts : Verdicts
        What is known of them; what is found is added.
    builder : Builder
        Builds both functions for the device.
    comparer : Comparer
        Runs them there.
    seed : int
        Seed of the random input.

    Raises
    ------
    TuningError
        If the device is gone for good, nothing can be built any more, or a verdict cannot be written.
    """
    reference: Reference | Verdict | None = None
    banned: list[tuple[ms.database.TuningRecord, Verdict]] = []
    for record in ranked(workload, database):
        with held_back():
            verdict = verdicts.verdict_of(workload, record.trace)
        if verdict is None or verdict.judgement is Judgement.NOT_COMPARED:
            reference = reference or _reference(workload, record.target, builder, comparer, seed)
            verdict = _compare(record, reference, builder, comparer)
            with held_back():
                verdicts.add(workload, record.trace, verdict)
            if verdict.judgement is Judgement.WRONG:
                banned.append((record, verdict))
        if verdict.judgement is not Judgement.WRONG:
            return Checked(record, verdict, tuple(banned))
    return Checked(None, None, tuple(banned))


def ranked(workload: ms.database.Workload, database: ms.database.Database) -> list[ms.database.TuningRecord]:
    """Return a workload's records that have a time, the best first."""
    with held_back():
        records = database.get_top_k(workload, len(database))
        return [record for record in records if best_seconds(record.run_secs)]


def _reference(
    workload: ms.database.Workload,
    target: tvm.target.Target,
    builder: Builder,
    comparer: Comparer,
    seed: int,
) -> Reference | Verdict:
    """Run the untuned function as it is; in parallel if that takes too long."""
    with held_back():
        signature = kernels.signature(workload)
    for module in (kernels.untuned(workload), kernels.in_parallel(workload)):
        with _built(builder, kernels.on_host(module, target)) as library:
            reference = (
                library if isinstance(library, Verdict) else comparer.reference(library, signature, seed)
            )
        if isinstance(reference, Reference):
            break
    return reference


def _compare(
    record: ms.database.TuningRecord, reference: Reference | Verdict, builder: Builder, comparer: Comparer
) -> Verdict:
    if isinstance(reference, Verdict):
        return reference
    with held_back():
        module = kernels.tuned(record)
    with _built(builder, module) as library:
        return library if isinstance(library, Verdict) else comparer.compare(library, reference)


@contextmanager
def _built(builder: Builder, module: IRModule) -> Iterator[Path | Verdict]:
    """Build a function and remove the library afterwards; the verdict says why there is none."""
    built = builder.submit(module).result()
    try:
        yield built.path or Verdict(Judgement.NOT_COMPARED, detail=str(built.failure))
    finally:
        built.discard()
