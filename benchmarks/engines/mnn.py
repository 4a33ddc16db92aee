"""MNN in float32."""

import subprocess
import sys
import tempfile
from pathlib import Path

import MNN

from engines import Arrays
from engines.signature import signature

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
        shapes, results = signature(model)
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder) / "network.mnn"
            command = [_CONVERTER, "-f", "ONNX", "--modelFile", model, "--MNNModel", converted]
            subprocess.run([*command, "--bizCode", "x"], check=True, stdout=subprocess.DEVNULL)
            manager = MNN.nn.create_runtime_manager(
                ({"backend": "CPU", "numThread": threads, "precision": "high"},)
            )
            self._module = MNN.nn.load_module_from_file(
                str(converted), list(shapes), results, runtime_manager=manager, shape_mutable=False
            )

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        given = [MNN.expr.const(each, list(each.shape), MNN.expr.NCHW) for each in inputs]
        found = self._module.forward(given)
        found = found if isinstance(found, list | tuple) else [found]
        return [MNN.expr.convert(each, MNN.expr.NCHW).read() for each in found]
