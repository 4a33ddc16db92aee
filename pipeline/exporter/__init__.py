"""Write a merged network as ONNX, for other runtimes."""

from pipeline.exporter.export import Exported, export, write_onnx
from pipeline.exporter.model import to_onnx
from pipeline.exporter.translation import UnsupportedOperators

__all__ = ["Exported", "UnsupportedOperators", "export", "to_onnx", "write_onnx"]
