"""The part of a network's time that the layers of each merge take.

From a profile, or estimated by the roofline model (Williams, Waterman, Patterson 2009): a layer takes as long
as the slower of its multiply-adds and of the bytes that it reads and writes. Layers that treat each element
for itself count nothing, for they are compiled into the layer in front of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import tvm
from tvm import relax

from relay_passes.convolution import ACTIVATIONS, SCALES
from relay_passes.graph import Graph, operator_of, shape_of
from relay_passes.layer_table import layers_of
from relay_passes.merge_plan import MergePlan

MACS_PER_BYTE = 4
"""Multiply-adds that a processor does in the time in which it moves a byte of main memory: about what phones'
and boards' CPUs do in float32."""
FUSED = (*ACTIVATIONS, *SCALES, "reshape", "squeeze", "nn.batch_flatten")
ESTIMATED = "estimated from multiply-adds and bytes, not measured"


def estimated_times(module: tvm.IRModule) -> dict[str, float]:
    """What each layer of a canonical module takes, in bytes that could be moved meanwhile."""
    graph = Graph(module)
    values = {
        var: value
        for var in graph.layers
        if isinstance(var.ty, relax.TensorType) and operator_of(value := graph.value[var]) not in FUSED
    }
    return {
        row.name: max(row.macs / MACS_PER_BYTE, row.output_bytes + _bytes_read(graph, value))
        for row, value in zip(layers_of(graph, values), values.values(), strict=True)
    }


def with_time_shares(plan: MergePlan, times: Mapping[str, float], source: str) -> MergePlan:
    """The plan with each candidate's share of the time.

    Parameters
    ----------
    plan : MergePlan
    times : mapping of str to float
        The time of each layer of the network before any merge, by name, in one unit; layers left out take
        none.
    source : str
        Where they come from.
    """
    whole = sum(times.values())
    candidates = tuple(
        each.model_copy(update={"time_share": sum(times.get(name, 0.0) for name in set(each.layers)) / whole})
        for each in plan.candidates
    )
    return plan.model_copy(update={"candidates": candidates, "time_from": source})


def _bytes_read(graph: Graph, value: relax.Expr) -> int:
    arguments = [graph.value.get(arg, arg) for arg in getattr(value, "args", ())]
    tensors = [t for arg in arguments for t in (arg.fields if isinstance(arg, relax.Tuple) else [arg])]
    return sum(_size(tensor) for tensor in tensors if isinstance(tensor.ty, relax.TensorType))


def _size(tensor: relax.Expr) -> int:
    return math.prod(shape_of(tensor)) * np.dtype(str(tensor.ty.dtype)).itemsize
