"""How much faster the fully merged network is on this machine: both are deployed with the same trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import Tuning, deploy
from pipeline.console import Progress


def measured_speedup(original: Path, retrained: Path, folder: Path, trials: int) -> dict[str, Any]:
    """Deploy both networks, and return what the report says of their times.

    Nothing else should run meanwhile. Tuning goes on where it was broken off.
    """
    report = deploy(
        original,
        retrained=retrained,
        out=folder / "deployed",
        tuning=Tuning(trials=trials, database=folder / "tuning"),
        progress=Progress(),
    ).report
    return {
        "speedup": report.speedup,
        "speedup_note": report.speedup_note,
        "latency_ms": report.latency_ms.model_dump(),
        "timed_on": report.device.measured_on,
    }
