"""The records that hold one imported network: its graph, its inputs and outputs, its golden values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tvm


@dataclass(frozen=True)
class TensorSpec:
    """The name, shape and type (`float32`) of a network's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Golden:
    """Inputs and what the framework the network came from computes for them.

    Parameters
    ----------
    inputs, outputs : dict of str to numpy.ndarray
        By the names of the network's inputs and outputs.
    logits : dict of str to numpy.ndarray
        The outputs before a final softmax, log-softmax or sigmoid, by the output's name; the output itself
        where there is none.
    """

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]

    @property
    def has_softmax(self) -> bool:
        """Whether an output comes from a final softmax, log-softmax or sigmoid."""
        return any(self.logits[name] is not self.outputs[name] for name in self.outputs)


@dataclass(frozen=True)
class Network:
    """A network as the other stages get it.

    Parameters
    ----------
    name : str
        From the file's or the class's name, if the user gave none.
    module : tvm.IRModule
        The canonical module, with the weights in it.
    inputs, outputs : tuple of TensorSpec
        In the order of `main`'s parameters and results.
    golden : Golden
        Values from onnxruntime or torch.
    framework : {"onnx", "torch"}
        Where the network came from.
    source_digest : str
        `sha256:` and the digest of the file, or of the weights of a module that was given in memory.
    """

    name: str
    module: tvm.IRModule
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: Golden
    framework: Literal["onnx", "torch"]
    source_digest: str
