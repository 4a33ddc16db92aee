"""Cut convolutions with long float16 sums into several, whose results are added up in float32.

    y = sum over parts p of the input channels: float32(conv(x[p], w[:, p]))

A float16 sum of n terms of random signs is off by about 0.3 u sqrt(n) of its size, u = 2^-11: one percent for
the 4,608 terms of a 3x3 convolution of 512 channels. In parts of m terms it is 0.3 u sqrt(m), however many
there are, and the additions in between cost one in m.
"""

from __future__ import annotations

from functools import partial, reduce
from math import ceil, prod

import tvm
from tvm import relax

from relay_passes.canonicalize.fold_constants import constant
from relay_passes.convolution import Convolution
from relay_passes.graph import Emitter, Graph

LONGEST = 1024
"""Terms of the longest float16 sum that is left whole."""


@tvm.transform.module_pass(opt_level=0, name="ShortenSums")
class ShortenSums:
    """Cut the `nn.conv2d` without groups whose float16 sums have more terms than `longest`."""

    def __init__(self, longest: int = LONGEST):
        self._longest = longest

    def transform_module(self, module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """The module with such convolutions in parts; the sum of the parts has the convolution's name."""
        graph = Graph(module)
        long = {
            var: found
            for var in graph.layers
            if (found := Convolution.at(graph, var)) is not None and _is_long(found, self._longest)
        }
        return graph.rewrite(
            {var: partial(_in_parts, convolution=each, longest=self._longest) for var, each in long.items()}
        )


def _is_long(convolution: Convolution, longest: int) -> bool:
    weight = convolution.weight
    return weight.dtype == "float16" and convolution.groups == 1 and prod(weight.shape[1:]) > longest


def _in_parts(emit: Emitter, convolution: Convolution, longest: int) -> relax.Expr:
    weight, source = convolution.weight, emit(convolution.source)
    size = _channels_of_a_part(weight.shape[1], longest // prod(weight.shape[2:]))
    parts = []
    for first in range(0, weight.shape[1], size):
        behind = min(first + size, weight.shape[1])
        name = f"{convolution.name}.{len(parts)}"
        part = emit.layer(f"{name}.input", relax.op.strided_slice(source, [1], [first], [behind]))
        convolved = relax.op.nn.conv2d(
            part,
            constant(weight[:, first:behind]),
            strides=convolution.strides,
            padding=convolution.padding,
            dilation=convolution.dilation,
        )
        wide = relax.op.astype(emit.layer(name, convolved), "float32")
        parts.append(emit.layer(f"{name}.wide", wide))
    total = reduce(lambda sum_, part: emit.layer(f"{convolution.name}.sum", relax.op.add(sum_, part)), parts)
    return relax.op.astype(total, "float16")


def _channels_of_a_part(channels: int, most: int) -> int:
    """The largest divisor of the channels that is allowed; nearly equal parts where that is small."""
    most = max(most, 1)
    divisor = next(size for size in range(most, 0, -1) if channels % size == 0)
    return divisor if 2 * divisor >= most else ceil(channels / ceil(channels / most))
