"""What a user calls: `deploy`, `export`, `inspect`, `load_network`, `retrain`, what they take and return.

The first use of any of them checks the pinned versions, since the wrong ones end the process later on, and
imports torch and TVM, which `deeprebirth --help` should not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.startup import check_versions

if TYPE_CHECKING:
    from pipeline.deployment import Deployment, Training, deploy
    from pipeline.exporter import Exported, export
    from pipeline.importer import load_network
    from pipeline.inspection import Inspection, inspect
    from pipeline.merging import MergeRequest
    from pipeline.retraining import Retrained, Settings, retrain

PROVIDED_BY = {
    "Deployment": "pipeline.deployment",
    "Training": "pipeline.deployment",
    "deploy": "pipeline.deployment",
    "Exported": "pipeline.exporter",
    "export": "pipeline.exporter",
    "load_network": "pipeline.importer",
    "Inspection": "pipeline.inspection",
    "inspect": "pipeline.inspection",
    "MergeRequest": "pipeline.merging",
    "Retrained": "pipeline.retraining",
    "Settings": "pipeline.retraining",
    "retrain": "pipeline.retraining",
}

__all__ = [
    "Deployment",
    "Exported",
    "Inspection",
    "MergeRequest",
    "Retrained",
    "Settings",
    "Training",
    "deploy",
    "export",
    "inspect",
    "load_network",
    "retrain",
]


def __getattr__(name: str) -> object:
    if name not in PROVIDED_BY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_versions()
    return getattr(import_module(PROVIDED_BY[name]), name)
