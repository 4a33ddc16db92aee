"""What both importers hand to the check: the module as TVM made it, and what it has to compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tvm
from tvm import relax

from pipeline.network import Golden, TensorSpec

Layers = dict[relax.Expr, str]


@dataclass(frozen=True)
class Imported:
    """A module before it is canonical.

    Parameters
    ----------
    module : tvm.IRModule
        The parameters of `main` are the inputs (`num_input` of them), then the weights, under the names the
        user knows them by.
    weights : mapping of str to numpy.ndarray or tvm.runtime.Tensor
        By the names of those parameters.
    layers : dict of relax.Expr to str
        The user's name of the layer that a value of the module belongs to; no two layers have one name.
    inputs, outputs, golden, framework, source_digest
        As in `Network`.
    reborn : tuple of str
        The layers that the model itself says are not trained yet.
    """

    module: tvm.IRModule
    weights: Mapping[str, np.ndarray | tvm.runtime.Tensor]
    layers: Layers
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: Golden
    framework: Literal["onnx", "torch"]
    source_digest: str
    reborn: tuple[str, ...] = ()
