"""A zero padding in front of a convolution is part of it: padding widths add up."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from relay_passes.graph import Emitter, Graph


@tvm.transform.module_pass(opt_level=0, name="AbsorbPadding")
def absorb_padding(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Move zero padding of height and width into the convolution that reads it."""
    graph = Graph(module)
    found = {}
    for var in graph.layers:
        convolution = graph.call(var, "nn.conv2d")
        if convolution is not None and convolution.attrs.data_layout == "NCHW":
            source, widths = _unpadded(graph, convolution.args[0])
            if widths.any():
                found[var] = (convolution, source, widths)
    return graph.rewrite({var: lambda emit, args=args: _absorbed(emit, *args) for var, args in found.items()})


def _unpadded(graph: Graph, source: relax.Expr) -> tuple[relax.Expr, np.ndarray]:
    """What stands in front of the paddings that lead to `source`; their top, left, bottom and right width."""
    total = np.zeros(4, dtype=int)
    while (padding := graph.call(source, "nn.pad")) is not None and _is_spatial_zero(padding):
        top, bottom, left, right = (int(width) for width in padding.attrs.pad_width[4:])
        total += (top, left, bottom, right)
        source = padding.args[0]
    return source, total


def _is_spatial_zero(padding: relax.Call) -> bool:
    widths = [int(width) for width in padding.attrs.pad_width]
    is_zero = padding.attrs.pad_mode == "constant" and float(padding.attrs.pad_value) == 0
    return is_zero and len(widths) == 8 and not any(widths[:4]) and min(widths) >= 0


def _absorbed(emit: Emitter, convolution: relax.Call, source: relax.Expr, widths: np.ndarray) -> relax.Expr:
    attributes = convolution.attrs
    return relax.op.nn.conv2d(
        emit(source),
        emit(convolution.args[1]),
        strides=[int(stride) for stride in attributes.strides],
        padding=[int(own) + int(added) for own, added in zip(attributes.padding, widths, strict=True)],
        dilation=[int(dilation) for dilation in attributes.dilation],
        groups=int(attributes.groups),
        data_layout=attributes.data_layout,
        kernel_layout=attributes.kernel_layout,
        out_layout=attributes.out_layout,
        out_dtype=attributes.out_dtype,
    )
