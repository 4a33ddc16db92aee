"""What a user calls: `deploy`, `export`, `inspect`, `load_network`, `retrain`, `tune`, and what they take.

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
    from pipeline.tuner import Tuned, Tuning, tune

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
    "Tuned": "pipeline.tuner",
    "Tuning": "pipeline.tuner",
    "tune": "pipeline.tuner",
}

__all__ = [
    "Deployment",
    "Exported",
    "Inspection",
    "MergeRequest",
    "Retrained",
    "Settings",
    "Training",
    "Tuned",
    "Tuning",
    "deploy",
    "export",
    "inspect",
    "load_network",
    "retrain",
    "tune",
]


def __getattr__(name: str) -> object:
    if name not in PROVIDED_BY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_versions()
    return getattr(import_module(PROVIDED_BY[name]), name)
