"""Round the weights of convolutions and dense layers to what int8 numbers and a scale for each channel hold.

Each output channel has a scale s, its largest magnitude / 127, and each of its weights w becomes s q with the
integer q nearest to w / s. The weights stay ordinary constants of their type: only their values change, so
that nothing behind this pass has to know of it. Biases and other constants are few, and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Emitter, Graph, array_of, operator_of
from relay_passes.to_float16 import CONVOLUTIONS, TRANSPOSED

LARGEST = 127
CHANNEL_AXIS = {**dict.fromkeys(CONVOLUTIONS, 0), **dict.fromkeys(TRANSPOSED, 1), "matmul": -1}
"""Where the output channels stand in the second argument of each operator."""


@tvm.transform.module_pass(opt_level=0, name="RoundWeights")
class RoundWeights:
    """Round the weights of a canonical module, in float32 or float16."""

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """The module with the same layers and other values of their weights."""
        graph = Graph(module)
        return graph.rewrite({var: partial(_rounded_layer, call=call) for var, call in _weighted(graph)})


def rounded(weight: np.ndarray, axis: int) -> np.ndarray:
    """Round weights.

    Parameters
    ----------
    weight : numpy.ndarray
        Finite, float32 or float16.
    axis : int
        Of the output channels.

    Returns
    -------
    numpy.ndarray
        Of the same type: products of int8 numbers and float32 scales, computed in float32. A channel whose
        scale would be no normal number, below 1.2e-38, becomes zeros.
    """
    others = tuple(each for each in range(weight.ndim) if each != axis % weight.ndim)
    single = weight.astype("float32")
    scale = np.abs(single).max(others, keepdims=True, initial=0) / np.float32(LARGEST)
    scale[scale < np.finfo("float32").smallest_normal] = 0
    exact = np.divide(single, scale, out=np.zeros_like(single), where=scale > 0)
    numbers = np.rint(exact).clip(-LARGEST, LARGEST).astype("int8")
    return (numbers * scale).astype(weight.dtype)


def _weighted(graph: Graph) -> Iterator[tuple[relax.Var, relax.Call]]:
    """The layers whose weights are constants."""
    for var in graph.layers:
        call = graph.call(var, *CHANNEL_AXIS)
        weight = None if call is None else array_of(call.args[1])
        if weight is not None and weight.dtype.kind == "f" and weight.ndim > 1 and np.isfinite(weight).all():
            yield var, call


def _rounded_layer(emit: Emitter, call: relax.Call) -> relax.Call:
    weight = constant(rounded(array_of(call.args[1]), CHANNEL_AXIS[operator_of(call)]))
    return relax.Call(emit(call.op), [emit(call.args[0]), weight], call.attrs, call.ty_args)
