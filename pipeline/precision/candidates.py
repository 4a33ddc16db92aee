"""A deployment's two networks in another form: with float16 layers, int8 weights, or both."""

from __future__ import annotations

from typing import Any

from pipeline.candidate import Candidate
from pipeline.network import Network
from pipeline.precision.conversion import Form
from pipeline.precision.network import convert_network
from pipeline.precision.validation import Validation
from pipeline.report.model import Compared, Precision


def in_form(
    form: Form, candidates: Compared[Candidate], network: Network, validation: Validation | None, seed: int
) -> Compared[Candidate]:
    """Convert both networks and measure what each loses; raises as `convert_network` does."""
    original, merged = (
        _converted(form, each, network, validation, seed) for each in (candidates.original, candidates.merged)
    )
    return Compared[Any](original=original, merged=merged)


def _converted(
    form: Form, candidate: Candidate, network: Network, validation: Validation | None, seed: int
) -> Candidate:
    made = convert_network(candidate.module, network, validation, seed, form)
    measured = made.measured
    precision = Precision(
        dtype=form.dtype,
        weights=form.weights,
        note=made.converted.notice(),
        metric=measured.metric,
        samples=measured.samples,
        before=measured.before,
        after=measured.after,
        data=made.data,
    )
    return Candidate(
        candidate.name, made.converted.module, made.reference, form.against, made.tolerances, precision
    )
