"""MNN in float32."""

import subprocess
import sys
import tempfile
from pathlib import Path

import MNN
import numpy as np
import onnx

Arrays = list[np.ndarray]

VERSION = MNN.version()
_CONVERTER = Path(sys.executable).with_name("mnnconvert")


class Loaded:
    """A network in MNN.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        graph = onnx.load(model, load_external_data=False).graph
        weights = {each.name for each in graph.initializer}
        names = [each.name for each in graph.input if each.name not in weights]
        results = [each.name for each in graph.output]
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder) / "network.mnn"
            command = [_CONVERTER, "-f", "ONNX", "--modelFile", model, "--MNNModel", converted]
            subprocess.run([*command, "--bizCode", "x"], check=True, stdout=subprocess.DEVNULL)
            manager = MNN.nn.create_runtime_manager(
                ({"backend": "CPU", "numThread": threads, "precision": "high"},)
            )
            self._module = MNN.nn.load_module_from_file(
                str(converted), names, results, runtime_manager=manager, shape_mutable=False
            )

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        given = [MNN.expr.const(each, list(each.shape), MNN.expr.NCHW) for each in inputs]
        found = self._module.forward(given)
        found = found if isinstance(found, list | tuple) else [found]
        return [MNN.expr.convert(each, MNN.expr.NCHW).read() for each in found]
