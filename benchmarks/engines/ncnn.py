"""ncnn in float32; pnnx converts the ONNX file."""

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np

from engines import Arrays
from engines.signature import signature

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
        inputs, outputs = signature(model)
        shapes = [f"[{','.join(map(str, shape))}]f32" for shape in inputs.values()]
        self._results = len(outputs)
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
