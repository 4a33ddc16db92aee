"""Where a network is tried: a target, and the session whose devices run its code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import targets
import tuning


@dataclass(frozen=True)
class Place:
    """A target and an entered session with devices of its kind."""

    target: targets.TargetInfo
    session: tuning.Session

    @property
    def emulated(self) -> bool:
        """Whether something else stands in for the target's device, so that its times say nothing."""
        return self.session.emulated(self.target)

    @property
    def measured_on(self) -> str:
        """The device in words."""
        return self.session.measured_on(self.target)

    def run(self, library: tuning.Library, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Run a network once and return its outputs.

        Raises
        ------
        tuning.TuningError
            The device is gone, or the run fails.
        """
        return tuning.run_remote(self.session, library, inputs, device_type=self.target.device_type)

    def measure(
        self, libraries: dict[str, tuning.Library], inputs: list[np.ndarray], runs: int
    ) -> dict[str, tuning.Latency]:
        """Time networks alternately, each so many times after a warm-up.

        Raises
        ------
        tuning.TuningError
            The device is gone, or a run fails.
        """
        return tuning.measure(
            self.session,
            libraries,
            dict.fromkeys(libraries, inputs),
            runs,
            device_type=self.target.device_type,
        )
