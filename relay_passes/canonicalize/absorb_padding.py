"""A zero padding in front of a convolution is part of it: padding widths add up."""

from __future__ import annotations

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
        padding = graph.call(convolution.args[0], "nn.pad") if convolution is not None else None
        if padding is not None and _is_spatial_zero(padding):
            found[var] = (convolution, padding)
    return graph.rewrite({var: lambda emit, args=args: _absorbed(emit, *args) for var, args in found.items()})


def _is_spatial_zero(padding: relax.Call) -> bool:
    widths = [int(width) for width in padding.attrs.pad_width]
    is_zero = padding.attrs.pad_mode == "constant" and float(padding.attrs.pad_value) == 0
    return is_zero and len(widths) == 8 and not any(widths[:4]) and min(widths) >= 0


def _absorbed(emit: Emitter, convolution: relax.Call, padding: relax.Call) -> relax.Expr:
    top, bottom, left, right = (int(width) for width in padding.attrs.pad_width[4:])
    attributes = convolution.attrs
    widths = zip((int(p) for p in attributes.padding), (top, left, bottom, right), strict=True)
    return relax.op.nn.conv2d(
        emit(padding.args[0]),
        emit(convolution.args[1]),
        strides=[int(s) for s in attributes.strides],
        padding=[own + added for own, added in widths],
        dilation=[int(d) for d in attributes.dilation],
        groups=int(attributes.groups),
    )
