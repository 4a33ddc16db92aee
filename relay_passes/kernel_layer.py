"""Convolutions and dense layers as a decomposition sees them: all have a kernel (O, I, KH, KW).

That of a dense layer, whose weights stand as (I, O), has one tap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.graph import Emitter, Graph, operator_of, shape_of
from relay_passes.linear_layer import LinearLayer
from relay_passes.ranks import Kernel

OPERATORS = ("nn.conv2d", "matmul")


@dataclass(frozen=True)
class KernelLayer:
    """A convolution of images or a dense layer of vectors, with constant weights."""

    layer: LinearLayer

    @classmethod
    def at(cls, graph: Graph, var: relax.Expr) -> KernelLayer | None:
        """The layer that computes `var`, or None."""
        layer = LinearLayer.at(graph, var) if graph.call(var, *OPERATORS) is not None else None
        return None if layer is None else cls(layer)

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def kernel(self) -> np.ndarray:
        """The weights, (O, I / groups, KH, KW)."""
        weight = self.layer.weight
        return weight.T[:, :, None, None] if self._is_dense else weight

    @property
    def is_matrix(self) -> bool:
        """Whether the kernel has one tap."""
        return max(self.kernel.shape[2:]) == 1

    @property
    def groups(self) -> int:
        """The groups that inputs and outputs fall into."""
        return 1 if self._is_dense else int(self.layer.call.attrs.groups)

    def seen(self, squares: Callable[[int], np.ndarray]) -> Kernel:
        """What a choice of ranks looks at, given the squared singular values by axis."""
        outputs, inputs, *taps = self.kernel.shape
        (batch, _, *source), (_, _, *result) = shape_of(self.layer.source), shape_of(self.layer.var)
        places = (batch * math.prod(source), batch * math.prod(result))
        return Kernel(self.name, (inputs, outputs), math.prod(taps), places, squares)

    def emit(self, emit: Emitter, source: relax.Expr, kernel: np.ndarray) -> relax.Var:
        """Add the layer with another kernel over `source` (a new expression) under its name."""
        weight = _matrix(kernel) if self._is_dense else kernel
        return replace(self.layer, weight=weight).emit(emit, source)

    def emit_matrix(self, emit: Emitter, name: str, source: relax.Expr, kernel: np.ndarray) -> relax.Var:
        """Add a layer of the same sort with the kernel (O, I, 1, 1) of a matrix."""
        out_dtype = self.layer.call.attrs.out_dtype
        if self._is_dense:
            call = relax.op.matmul(source, constant(_matrix(kernel)), out_dtype=out_dtype)
        else:
            call = relax.op.nn.conv2d(source, constant(kernel), out_dtype=out_dtype)
        return emit.layer(name, call)

    @property
    def _is_dense(self) -> bool:
        return operator_of(self.layer.call) == "matmul"


def _matrix(kernel: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(kernel[:, :, 0, 0].T)
