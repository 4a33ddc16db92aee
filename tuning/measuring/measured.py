"""What measuring a candidate gives."""

from dataclasses import dataclass

from tuning.failures import Failure


@dataclass(frozen=True)
class Measured:
    """A candidate's run times, or the failure why there are none.

    Attributes
    ----------
    seconds : tuple of float
        Run times without outliers; empty if it failed.
    failure : Failure or None
    device : str or None
        Address of the device, ``host:port``; None if none took it.
    outliers : int
        Run times that were left out, as they lie far above the others.
    steady : bool
        Whether the spread of the times was small when measuring ended; otherwise its budget was spent.
    took : float
        Seconds that the device was busy with it.
    """

    seconds: tuple[float, ...] = ()
    failure: Failure | None = None
    device: str | None = None
    outliers: int = 0
    steady: bool = True
    took: float = 0.0

    @property
    def mean(self) -> float | None:
        """The mean of the run times; None if it failed."""
        return sum(self.seconds) / len(self.seconds) if self.seconds else None
