"""A deployment's two networks with float16 layers."""

from __future__ import annotations

from typing import Any

from pipeline.candidate import Candidate
from pipeline.network import Network
from pipeline.precision.network import AGAINST, to_float16_network
from pipeline.precision.validation import Validation
from pipeline.report.model import Compared, Precision


def in_float16(
    candidates: Compared[Candidate], network: Network, validation: Validation | None, seed: int
) -> Compared[Candidate]:
    """Convert both networks and measure what each loses; raises as `to_float16_network` does."""
    original, merged = (
        _converted(each, network, validation, seed) for each in (candidates.original, candidates.merged)
    )
    return Compared[Any](original=original, merged=merged)


def _converted(candidate: Candidate, network: Network, validation: Validation | None, seed: int) -> Candidate:
    made = to_float16_network(candidate.module, network, validation, seed)
    measured = made.measured
    precision = Precision(
        note=made.converted.notice(),
        metric=measured.metric,
        samples=measured.samples,
        float32=measured.before,
        float16=measured.after,
        data=made.data,
    )
    return Candidate(
        candidate.name, made.converted.module, made.reference, AGAINST, made.tolerances, precision
    )
