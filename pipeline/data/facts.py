"""What a report says about data."""

from __future__ import annotations

from typing import Any

from pipeline.data.source import Source

NAMED = 20


def facts(source: Source) -> dict[str, Any]:
    """Return the fields of `pipeline.retraining.records.DataFacts`, as known by now.

    `unreadable` names the first 20 samples that were skipped, `skipped` counts all of them.
    """
    unreadable = list(source.unreadable)
    return {
        "name": source.name,
        "samples": len(source),
        "classes": source.classes,
        "labelled": source.labelled,
        "unreadable": tuple(unreadable[:NAMED]),
        "skipped": len(unreadable),
    }
