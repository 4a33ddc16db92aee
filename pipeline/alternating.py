"""Time the original and the merged network of each target, all in turns.

A machine's speed drifts: its clock, its heat, its other work. Networks that are measured in turns meet the
same drift, so that the ratio of their medians means something. On one target the turns are single runs;
several targets are visited one after the other, a few runs each time, again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

import tuning
from pipeline.building import Built
from pipeline.place import Place
from pipeline.report.model import Compared

RUNS = 50
VISITS = 5


def measure_alternately(
    places: Sequence[Place], built: Sequence[Compared[Built]], inputs: list[np.ndarray]
) -> list[Compared[tuning.Latency]]:
    """Return the times of both networks at each place.

    Parameters
    ----------
    places : sequence of Place
        Where they run.
    built : sequence of Compared[Built]
        The networks at each.
    inputs : list of numpy.ndarray
        The golden inputs.

    Raises
    ------
    tuning.TuningError
        A device is gone, or a run fails.
    """
    visits = 1 if len(places) == 1 else VISITS
    libraries = [{"original": both.original.library, "merged": both.merged.library} for both in built]
    taken = [
        [place.measure(each, inputs, RUNS // visits) for place, each in zip(places, libraries, strict=True)]
        for _ in range(visits)
    ]
    return [_joined(at_place) for at_place in zip(*taken, strict=True)]


def _joined(visits: Sequence[dict[str, tuning.Latency]]) -> Compared[tuning.Latency]:
    def all_of(name: str) -> tuning.Latency:
        return tuning.Latency(tuple(chain.from_iterable(visit[name].times_ms for visit in visits)))

    return Compared[object](original=all_of("original"), merged=all_of("merged"))
