"""ExecuTorch with XNNPACK, on the network as torch exports it."""

import importlib.metadata
from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime

from engines import Arrays
from engines.twin import program_of

VERSION = importlib.metadata.version("executorch")


class Loaded:
    """A network in ExecuTorch.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        lowered = to_edge_transform_and_lower(program_of(model), partitioner=[XnnpackPartitioner()])
        self._program = Runtime.get().load_program(lowered.to_executorch().buffer)
        self._method = self._program.load_method("forward")
        portable_lib._unsafe_reset_threadpool(threads)

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        return [each.numpy() for each in self._method.execute([torch.from_numpy(each) for each in inputs])]
