"""ncnn in float32; pnnx converts the ONNX file."""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
import onnx

Arrays = list[np.ndarray]

VERSION = importlib.metadata.version("ncnn")
_CONVERTER = Path(sys.executable).with_name("pnnx")
_NETWORK = "network"


class Loaded:
    """A network in ncnn.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        graph = onnx.load(model, load_external_data=False).graph
        weights = {each.name for each in graph.initializer}
        shapes = [_shape(each) for each in graph.input if each.name not in weights]
        self._results = len(graph.output)
        self._net = ncnn.Net()
        self._net.opt.num_threads = threads
        for halved in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(self._net.opt, f"use_{halved}", False)
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copyfile(model, Path(folder) / f"{_NETWORK}.onnx")
            command = [_CONVERTER, copy, "fp16=0", f"inputshape={','.join(shapes)}"]
            subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder)
            self._net.load_param(str(Path(folder) / f"{_NETWORK}.ncnn.param"))
            self._net.load_model(str(Path(folder) / f"{_NETWORK}.ncnn.bin"))

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        extractor = self._net.create_extractor()
        for number, each in enumerate(inputs):
            extractor.input(f"in{number}", ncnn.Mat(each[0]))
        found = [extractor.extract(f"out{number}") for number in range(self._results)]
        return [np.array(mat)[None] for _, mat in found]


def _shape(value: onnx.ValueInfoProto) -> str:
    sizes = [str(size.dim_value) for size in value.type.tensor_type.shape.dim]
    return f"[{','.join(sizes)}]f32"
