"""Compare an imported module with what its own framework computes, before anything else happens to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tvm

from pipeline.errors import ImportRefused
from pipeline.network import Golden
from pipeline.twin import evaluate
from relay_passes import strip_softmax

TOLERANCE = 1e-4


def check_against_golden(module: tvm.IRModule, golden: Golden, framework: str) -> None:
    """Evaluate the module on the golden inputs.

    The largest difference may be `TOLERANCE` times the largest golden value (or 1, if that is smaller), for
    the outputs and for the values before a final softmax or sigmoid.

    Parameters
    ----------
    module : tvm.IRModule
        Canonical.
    golden : Golden
    framework : str
        Who computed the golden values, for the message.

    Raises
    ------
    ImportRefused
        If an output differs, or the framework's own output is not finite.
    """
    inputs = list(golden.inputs.values())
    _compare("output", evaluate(module, inputs), golden.outputs, framework)
    if golden.has_softmax:
        logits = evaluate(strip_softmax(module), inputs)
        _compare("output before its softmax or sigmoid", logits, golden.logits, framework)


def _compare(what: str, values: list[np.ndarray], wanted: Mapping[str, np.ndarray], framework: str) -> None:
    for (name, reference), value in zip(wanted.items(), values, strict=True):
        if not np.isfinite(reference).all():
            raise ImportRefused(f"{what} {name!r} is not finite in {framework}: check the model's weights")
        if value.shape != reference.shape:
            raise ImportRefused(
                f"imported wrong: {what} {name!r} has shape {value.shape}, in {framework} {reference.shape}"
            )
        difference = np.abs(value.astype(np.float64) - reference.astype(np.float64)).max(initial=0.0)
        allowed = TOLERANCE * max(1.0, float(np.abs(reference.astype(np.float64)).max(initial=0.0)))
        if not difference <= allowed:
            raise ImportRefused(
                f"imported wrong: {what} {name!r} differs from {framework}'s by {difference:.2g}"
                f" (allowed: {allowed:.2g})"
            )
