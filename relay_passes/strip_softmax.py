"""Return what a final softmax or sigmoid reads instead of its result.

A softmax of a thousand classes hides errors: its outputs are small and nearly equal. A sigmoid hides them
where it is flat: a detector that finds nothing gives 0 whatever it computes. Networks are therefore compared
before it as well.
"""

from __future__ import annotations

import tvm
from tvm import relax

from relay_passes.graph import Graph, shape_of

SQUASHING = ("nn.softmax", "nn.log_softmax", "sigmoid")


@tvm.transform.module_pass(opt_level=0, name="StripSoftmax")
def strip_softmax(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Make `main` return what the softmaxes and sigmoids read that it ends in; other outputs stay."""
    graph = Graph(module)
    return graph.rewrite({}, outputs=tuple(_logits(graph, output) for output in graph.outputs))


def _logits(graph: Graph, output: relax.Expr) -> relax.Expr:
    """What the softmax that `output` is reads; ONNX's softmax before opset 13 stands between two reshapes."""
    softmax = graph.call(output, *SQUASHING)
    if softmax is not None:
        return softmax.args[0]
    outer = graph.call(output, "reshape")
    softmax = None if outer is None else graph.call(outer.args[0], *SQUASHING)
    inner = None if softmax is None else graph.call(softmax.args[0], "reshape")
    is_between = inner is not None and shape_of(inner.args[0]) == shape_of(output)
    return inner.args[0] if is_between else output
