"""Write a merged network as ONNX, for other runtimes."""

from pipeline.exporter.model import to_onnx
from pipeline.exporter.translation import UnsupportedOperators

__all__ = ["UnsupportedOperators", "to_onnx"]
