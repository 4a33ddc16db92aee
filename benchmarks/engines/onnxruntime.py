"""onnxruntime with all its graph optimisations."""

from pathlib import Path

import onnxruntime

from engines import Arrays

VERSION = onnxruntime.__version__


class Loaded:
    """A network in onnxruntime.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        return self._session.run(None, dict(zip(self._names, inputs, strict=True)))
