"""The two networks that are built for a device, and what each has to compute there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm

from pipeline.merging import MergedNetwork, original_in
from pipeline.network import Network
from pipeline.report.model import FOR_TIMING_ONLY, Compared, Precision
from pipeline.verification import tolerance_for
from relay_passes import reborn_layers

ORIGINAL, MERGED = "original", "merged"


@dataclass(frozen=True)
class Candidate:
    """One of the two networks on its way, and the outputs that it has to compute for the golden inputs.

    `name` is `original` or `merged`; `against` says in words where the reference comes from. Where there are
    float16 layers, `tolerances` are the differences allowed, by the outputs' names, and `precision` the cost.
    """

    name: str
    module: tvm.IRModule
    reference: dict[str, np.ndarray]
    against: str
    tolerances: Mapping[str, float] | None = None
    precision: Precision | None = None

    @property
    def tolerance(self) -> float:
        """The largest difference allowed, of any output."""
        allowed = self.tolerances or {name: tolerance_for(each) for name, each in self.reference.items()}
        return max(allowed.values())

    @property
    def has_int8_weights(self) -> bool:
        """Whether its weights are int8 numbers times scales."""
        return self.precision is not None and self.precision.weights is not None

    @property
    def for_timing_only(self) -> bool:
        """Whether it has reborn layers that are not trained."""
        return bool(reborn_layers(self.module))

    @property
    def notices(self) -> tuple[str, ...]:
        """What whoever uses it has to know."""
        untrained = (FOR_TIMING_ONLY,) if self.for_timing_only else ()
        return untrained if self.precision is None else (*untrained, self.precision.note)


def candidates_of(network: Network, merged: MergedNetwork) -> Compared[Candidate]:
    """Return the original network and the merged one."""
    original = Candidate(ORIGINAL, network.module, network.golden.outputs, original_in(network))
    return Compared[Any](
        original=original, merged=Candidate(MERGED, merged.module, merged.reference, merged.against)
    )
