"""A user's model, from ONNX or PyTorch, as a canonical Relax module that is known to compute the same."""

from pipeline.importer.load import load_network

__all__ = ["load_network"]
