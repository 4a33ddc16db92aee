"""The trainable torch twin of a Relax module."""

from pipeline.twin.model import Twin, UnsupportedOperators, evaluate

__all__ = ["Twin", "UnsupportedOperators", "evaluate"]
