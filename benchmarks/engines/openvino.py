"""OpenVINO, for low latency, in float32."""

from pathlib import Path

import openvino

from engines import Arrays

VERSION = openvino.__version__


class Loaded:
    """A network in OpenVINO.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self._outputs = compiled.outputs
        self._request = compiled.create_infer_request()

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        results = self._request.infer(dict(enumerate(inputs)), share_inputs=True, share_outputs=True)
        return [results[each] for each in self._outputs]
