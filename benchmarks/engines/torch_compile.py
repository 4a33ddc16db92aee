"""torch.compile with its search for the fastest kernels, on the network as torch exports it."""

from pathlib import Path

import torch

from engines import Arrays
from engines.twin import program_of

VERSION = torch.__version__


class Loaded:
    """A network in torch.compile.

    Parameters
    ----------
    model : Path
        An ONNX file.
    threads : int
    """

    def __init__(self, model: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        module = program_of(model).module().to(memory_format=torch.channels_last)
        torch._inductor.config.freezing = True
        self._compiled = torch.compile(module, mode="max-autotune")

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it once."""
        with torch.no_grad():
            found = self._compiled(*map(torch.from_numpy, inputs))
        return [each.numpy() for each in (found if isinstance(found, list | tuple) else (found,))]
